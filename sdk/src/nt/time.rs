//! Windows times as text, in KD's words: FILETIMEs, link time stamps, spans of time, clock ticks.
//!
//! A FILETIME counts 100 ns since 1601-01-01 UTC; clock ticks count interrupts of `KeMaximumIncrement` × 100 ns. Days become dates by the era arithmetic of the proleptic Gregorian
//! calendar (400 years are 146097 days).

use std::fmt;

/// 100 ns units in a second.
const PER_SECOND: u64 = 10_000_000;
/// Seconds from 1601 to 1970.
const UNIX_EPOCH: u64 = 11_644_473_600;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment as a date and time of day, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// 1601 or later.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 is Monday.
    pub weekday: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
    /// 0 to 999.
    pub millisecond: u64,
}

impl Civil {
    /// From a FILETIME.
    pub fn from_file_time(time: u64) -> Civil {
        let seconds = time / PER_SECOND;
        let days = seconds / 86_400;
        let of_day = seconds % 86_400;
        // Eras begin on 1 March 1600, 306 days before 1601.
        let shifted = days + 306;
        let era = shifted / 146_097;
        let of_era = shifted % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Civil {
            year: 1600 + era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: days % 7,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            millisecond: time % PER_SECOND / 10_000,
        }
    }

    fn weekday_name(&self) -> &'static str {
        WEEKDAYS.get(self.weekday as usize).copied().unwrap_or("???")
    }

    fn month_name(&self) -> &'static str {
        MONTHS.get(self.month.wrapping_sub(1) as usize).copied().unwrap_or("???")
    }
}

impl fmt::Display for Civil {
    /// `Sun Feb 21 01:38:22 2021`, as the C library writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, day, hour, minute, second, .. } = self;
        write!(
            f,
            "{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}",
            self.weekday_name(),
            self.month_name()
        )
    }
}

/// The moment of the crash as KD's banner has it: `Sun Feb 21 01:38:22.987 2021 (UTC + 0:00)`. KD adds the offset of
/// the machine it runs on; kd stays with UTC.
pub fn session_time(file_time: u64) -> String {
    session_time_in(file_time, 0)
}

/// The same in a zone some hours from UTC: `… (UTC - 7:00)`.
pub fn session_time_in(file_time: u64, hours: i8) -> String {
    let shifted = file_time.saturating_add_signed(i64::from(hours) * 3600 * PER_SECOND as i64);
    let civil = Civil::from_file_time(shifted);
    let Civil { year, day, hour, minute, second, millisecond, .. } = civil;
    let sign = if hours < 0 { '-' } else { '+' };
    format!(
        "{} {} {day:2} {hour:02}:{minute:02}:{second:02}.{millisecond:03} {year} (UTC {sign} {}:00)",
        civil.weekday_name(),
        civil.month_name(),
        hours.unsigned_abs()
    )
}

/// Time since the start as KD's banner has it: `0 days 0:00:03.747`. `up_time` is in units of 100 ns.
pub fn up_time(up_time: u64) -> String {
    let seconds = up_time / PER_SECOND;
    format!(
        "{} days {}:{:02}:{:02}.{:03}",
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        up_time % PER_SECOND / 10_000
    )
}

/// A span of time as `!process` and `!thread` have it: `00:01:11.344`; days are in the hours. `span` is in units of
/// 100 ns.
pub fn elapsed(span: u64) -> String {
    let seconds = span / PER_SECOND;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        span % PER_SECOND / 10_000
    )
}

/// Units of 100 ns in clock ticks, where a tick is `increment` units (`KeMaximumIncrement`).
pub fn of_ticks(ticks: u64, increment: u64) -> u64 {
    ticks.saturating_mul(increment)
}

/// The time since a tick as `!thread` shows it behind `Ticks:`, `(0:00:00:01.921)`: days, hours, minutes, seconds.
/// `span` is in units of 100 ns.
pub fn waited(span: u64) -> String {
    let seconds = span / PER_SECOND;
    format!(
        "({}:{:02}:{:02}:{:02}.{:03})",
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        span % PER_SECOND / 10_000
    )
}

/// A `TimeDateStamp` (seconds since 1970) as a FILETIME.
pub fn file_time_of_stamp(stamp: u32) -> u64 {
    (u64::from(stamp) + UNIX_EPOCH) * PER_SECOND
}

/// A module's `TimeDateStamp` as `lm t` shows it: a date with the number, `***** Invalid (FE185FA8)` for numbers that
/// a signed 32-bit time does not have (images built reproducibly store a hash), `unavailable (00000000)`.
pub fn time_stamp(stamp: u32) -> String {
    match stamp {
        0 => "unavailable (00000000)".to_owned(),
        0x8000_0000.. => format!("***** Invalid ({stamp:08X})"),
        _ => format!("{} ({stamp:08X})", Civil::from_file_time(file_time_of_stamp(stamp))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_kd_writes_them() {
        assert_eq!(session_time_in(132_583_451_029_870_000, -7), "Sat Feb 20 18:38:22.987 2021 (UTC - 7:00)");
        // 2021-02-21 01:38:22.987
        let time = (1_613_871_502 + UNIX_EPOCH) * PER_SECOND + 9_870_000;
        assert_eq!(session_time(time), "Sun Feb 21 01:38:22.987 2021 (UTC + 0:00)");
        assert_eq!(up_time(37_470_000), "0 days 0:00:03.747");
        assert_eq!(up_time((26 * 3600 + 61) * PER_SECOND), "1 days 2:01:01.000");
        assert_eq!(time_stamp(0x0D8333E6), "Tue Mar  8 20:51:50 1977 (0D8333E6)");
        assert_eq!(time_stamp(0x6C31A20E), "Sat Jul 10 04:01:18 2027 (6C31A20E)");
        assert_eq!(time_stamp(0xFE185FA8), "***** Invalid (FE185FA8)");
        assert_eq!(time_stamp(0), "unavailable (00000000)");
    }

    #[test]
    fn spans_of_time() {
        assert_eq!(elapsed(713_440_000), "00:01:11.344");
        assert_eq!(elapsed(100 * 3600 * PER_SECOND), "100:00:00.000");
        assert_eq!(waited(of_ticks(123, 156_250)), "(0:00:00:01.921)");
        assert_eq!(waited((86_400 + 3661) * PER_SECOND), "(1:01:01:01.000)");
        elapsed(of_ticks(u64::MAX, u64::MAX));
    }

    #[test]
    fn dates_at_the_edges() {
        assert_eq!(Civil::from_file_time(0).to_string(), "Mon Jan  1 00:00:00 1601");
        let stamp = |seconds| Civil::from_file_time(file_time_of_stamp(seconds)).to_string();
        assert_eq!(stamp(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(stamp(951_868_800), "Wed Mar  1 00:00:00 2000");
        assert_eq!(stamp(946_684_799), "Fri Dec 31 23:59:59 1999");
        Civil::from_file_time(u64::MAX).to_string();
    }
}
