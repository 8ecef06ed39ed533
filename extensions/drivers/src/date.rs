//! Link time stamps: spelled as KD does, and judged. No clock is read.

/// Seconds of 1 January 1990, before which no Windows driver was linked.
const YEAR_1990: u32 = 631_152_000;
/// 100 ns units from 1601 to 1970.
const UNIX_IN_FILETIME: u64 = 116_444_736_000_000_000;

/// What a time stamp is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// Plausible as a date.
    Date(u32),
    /// Too early, or later than the dump: a hash, or damage.
    Invalid(u32),
    /// Zero.
    None,
}

/// Judges a stamp; `dump_time` is a FILETIME, 0 if unknown.
pub fn judge(stamp: u32, dump_time: u64) -> Stamp {
    let latest =
        dump_time.checked_sub(UNIX_IN_FILETIME).map_or(u64::from(u32::MAX), |ticks| ticks / 10_000_000);
    // A clock can be a day off.
    let plausible = stamp >= YEAR_1990 && u64::from(stamp) <= latest.saturating_add(86_400);
    match stamp {
        0 => Stamp::None,
        stamp if plausible => Stamp::Date(stamp),
        stamp => Stamp::Invalid(stamp),
    }
}

impl Stamp {
    /// `Fri May 26 15:13:00 2017`, or KD's marks for what is no date.
    pub fn show(self) -> String {
        match self {
            Stamp::Date(seconds) => spell(seconds.into()),
            Stamp::Invalid(stamp) => format!("***** Invalid ({stamp:08X})"),
            Stamp::None => "unavailable (00000000)".to_owned(),
        }
    }

    /// As a FILETIME, where it is a date.
    pub fn file_time(self) -> Option<u64> {
        match self {
            Stamp::Date(seconds) => Some(u64::from(seconds) * 10_000_000 + UNIX_IN_FILETIME),
            _ => None,
        }
    }
}

/// A FILETIME in the same spelling; `None` where it is before 1970 or beyond all reason.
pub fn show_file_time(time: u64) -> Option<String> {
    let seconds = time.checked_sub(UNIX_IN_FILETIME)? / 10_000_000;
    (seconds < 1 << 34).then(|| spell(seconds))
}

/// Seconds since 1970 in UTC.
fn spell(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let name = |names: &[&'static str], index: u64| names.get(index as usize).copied().unwrap_or("?");
    format!(
        "{} {} {day:2} {:02}:{:02}:{:02} {year}",
        name(&DAYS, days % 7),
        name(&MONTHS, month),
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(spell(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(spell(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(Stamp::Date(0x5928_45ec).show(), "Fri May 26 15:12:44 2017");
        assert_eq!(Stamp::Invalid(0xc9c0_3000).show(), "***** Invalid (C9C03000)");
        assert_eq!(Stamp::None.show(), "unavailable (00000000)");
        assert_eq!(show_file_time(0), None);
        assert_eq!(show_file_time(u64::MAX), None);
        assert_eq!(show_file_time(UNIX_IN_FILETIME).as_deref(), Some("Thu Jan  1 00:00:00 1970"));
    }

    #[test]
    fn stamps_are_judged_by_the_dump() {
        let in_2018 = 0x5a4b_0000u64 * 10_000_000 + UNIX_IN_FILETIME;
        assert_eq!(judge(0x5928_45ec, in_2018), Stamp::Date(0x5928_45ec));
        assert_eq!(judge(0x6000_0000, in_2018), Stamp::Invalid(0x6000_0000));
        assert_eq!(judge(0x6000_0000, 0), Stamp::Date(0x6000_0000));
        assert_eq!(judge(1, in_2018), Stamp::Invalid(1));
        assert_eq!(judge(0, in_2018), Stamp::None);
    }
}
