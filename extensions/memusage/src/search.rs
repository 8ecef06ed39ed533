//! `!search`: a number in physical memory, with the page and the address that hold it.

use kd_sdk::address::{PAGE_SIZE, Pa};
use kd_sdk::nt::memory::TableWindow;
use kd_sdk::nt::pfn::Database;
use kd_sdk::nt::pte;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;
/// The most hits that are shown; the rest is counted.
const MOST_SHOWN: u64 = 4096;

/// What is looked for.
struct Wanted {
    value: u64,
    delta: u64,
    /// Bytes of a number: it stands at a multiple of them.
    size: usize,
}

impl Wanted {
    /// Calls `hit` with the offset and the number of all that are near enough.
    fn each(&self, bytes: &[u8], hit: &mut dyn FnMut(usize, u64)) {
        let low = self.value.saturating_sub(self.delta);
        let span = self.value.saturating_add(self.delta) - low;
        let mut look = |index: usize, number: u64| {
            if number.wrapping_sub(low) <= span {
                hit(index * self.size, number);
            }
        };
        if self.size == 8 {
            let words = bytes.as_chunks::<8>().0.iter().enumerate();
            words.for_each(|(index, word)| look(index, u64::from_le_bytes(*word)));
        } else {
            let words = bytes.as_chunks::<4>().0.iter().enumerate();
            words.for_each(|(index, word)| look(index, u32::from_le_bytes(*word).into()));
        }
    }
}

/// Runs the command.
pub fn search(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let mut size = session.target().pointer_size() as usize;
    while let Some(option) = args.option() {
        match option {
            "s" => {} // symbols that are missing stop nothing here
            "p" => size = 4,
            other => return Err(Error::Usage(format!("!search has no option -{other}"))),
        }
    }
    if args.peek().is_none() {
        return Err(Error::Usage("the number to look for is missing: !search DATA [DELTA]".to_owned()));
    }
    let mut number = |default: u64| args.word().map_or(Ok(default), |text| session.evaluate(text));
    let value = number(u64::MAX)?;
    let (delta, first, last) = (number(0)?, number(0)?, number(u64::MAX >> 12)?);
    args.finish()?;
    let value = if size == 4 { value & u64::from(u32::MAX) } else { value };
    let mut runs = Vec::new();
    session.memory().physical_runs(&mut |pfn, pages| {
        let (from, to) = (pfn.0.max(first), pfn.0.saturating_add(pages).min(last.saturating_add(1)));
        if from < to {
            runs.push((from, to));
        }
        true
    })?;
    let total: u64 = runs.iter().map(|(from, to)| to - from).sum();
    let pages = Pages::new(session);
    let absent = pages.between(first, last).map(|machine| machine.saturating_sub(total));
    let out = session.out();
    out.line(&format!("Searching PFNs in range {first:08X} - {last:08X} for [{value:x} +/- {delta:x}]"));
    out.end_line();
    let width = if session.target().pointer_size() == 4 { 8 } else { 17 };
    out.styled(
        Style::Heading,
        &format!("{:>10} {:>6} {:>width$} {:>width$} {:>width$}", "Pfn", "Offset", "Hit", "Va", "Pte"),
    );
    out.end_line();
    let wanted = Wanted { value, delta, size };
    let (mut found, mut done, mut buffer) = (0u64, 0u64, vec![0; CHUNK as usize]);
    let result = out.list("hits", |out| {
        for (from, to) in runs {
            let mut pfn = from;
            while pfn < to {
                session.check_interrupt()?;
                session.progress(done, total, "Searching physical memory");
                let count = (to - pfn).min(CHUNK / PAGE_SIZE);
                let piece = buffer.get_mut(..(count * PAGE_SIZE) as usize).unwrap_or_default();
                // What a dump that was cut short lacks is not searched.
                if session.memory().read_physical(Pa(pfn * PAGE_SIZE), piece).is_ok() {
                    wanted.each(piece, &mut |offset, number| {
                        found += 1;
                        if found <= MOST_SHOWN {
                            pages.row(out, Pa(pfn * PAGE_SIZE + offset as u64), number, width);
                        }
                    });
                }
                (pfn, done) = (pfn + count, done + count);
            }
        }
        Ok(())
    });
    out.end_line();
    out.field("found", Value::UInt(found), &format!("{found} hits"));
    out.field("pages", Value::UInt(done), &format!(" in {done} pages"));
    match absent {
        Some(0) => out.data("not_captured", Value::UInt(0)),
        Some(count) => {
            let text = format!("; {count} more pages of the machine are not captured in this dump");
            out.field("not_captured", Value::UInt(count), &text);
        }
        None => out.field("not_captured", Value::Null, "; how many pages the machine has is not known"),
    }
    if found > MOST_SHOWN {
        out.text(&format!("; the first {MOST_SHOWN} are shown, STARTPFN leads to others"));
    }
    out.end_line();
    result
}

/// Where pages are mapped, as far as the PFN database tells.
struct Pages<'a> {
    session: &'a Session<'a>,
    database: Option<(Database<'a>, TableWindow)>,
}

impl<'a> Pages<'a> {
    fn new(session: &'a Session<'a>) -> Pages<'a> {
        let open = || {
            let database = Database::open(session).ok()?;
            let window = pte::window(session).ok()?;
            Some((database, window))
        };
        Pages { session, database: open() }
    }

    /// Pages of the machine from `first` to `last`.
    fn between(&self, first: u64, last: u64) -> Option<u64> {
        let (database, _) = self.database.as_ref()?;
        let part = |&(start, count): &(Pfn, u64)| {
            let end = start.0.saturating_add(count).min(last.saturating_add(1));
            end.saturating_sub(start.0.max(first))
        };
        Some(database.runs.iter().map(part).sum())
    }

    fn row(&self, out: &Out<'_>, pa: Pa, number: u64, width: usize) {
        let offset = pa.0 % PAGE_SIZE;
        let entry = self.database.as_ref().and_then(|(database, window)| {
            let pte = database.frame(pa.pfn()).ok()?.pte;
            Some((window.address(pte).map(|va| va.add(offset)), pte))
        });
        let (va, pte) = entry.map_or((None, None), |(va, pte)| (va, Some(pte)));
        let show = |va: Option<Va>| va.map_or_else(|| "-".to_owned(), |va| self.session.target().show(va));
        let hex = |va: Option<Va>| va.map_or(Value::Null, |va| Value::Hex(va.0));
        out.record("", |out| {
            out.field("pfn", Value::Hex(pa.pfn().0), &format!("{:>10x}", pa.pfn().0));
            out.field("offset", Value::Hex(offset), &format!(" {offset:>6x}"));
            let hit = show(Some(Va(number)));
            out.field("hit", Value::Hex(number), &format!(" {hit:>width$}"));
            out.field("va", hex(va), &format!(" {:>width$}", show(va)));
            out.field("pte", hex(pte), &format!(" {:>width$}", show(pte)));
            out.end_line();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_within_the_distance_are_hits() {
        let bytes: Vec<u8> = [0u64, 9, 10, 12, 13, u64::MAX].iter().flat_map(|n| n.to_le_bytes()).collect();
        let found = |value, delta| {
            let mut hits = Vec::new();
            Wanted { value, delta, size: 8 }.each(&bytes, &mut |at, number| hits.push((at, number)));
            hits
        };
        assert_eq!(found(10, 0), [(16, 10)]);
        assert_eq!(found(11, 1), [(16, 10), (24, 12)]);
        assert_eq!(found(u64::MAX, u64::MAX).len(), 6);
        let mut narrow = 0;
        Wanted { value: 0xffff_ffff, delta: 0, size: 4 }.each(&bytes, &mut |_, _| narrow += 1);
        assert_eq!(narrow, 2);
    }
}
