//! `dg`: segment descriptors of x86 and x64. Source of the layout: Intel's manual, volume 3, chapter 3.

use super::{Builtin, Call, Needs};
use crate::dump::Machine;
use crate::scope::Scope;
use crate::session::Session;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["dg"],
    usage: "SELECTOR [LAST]",
    summary: "Show segment descriptors (x86, x64)",
    help: "Reads the global descriptor table of the processor (gdtr, else the one that its KPCR names). With LAST: every selector from the first to it.",
    needs: Needs::Target,
    run: show,
}];

/// Selectors of one table: an index has 13 bits.
const MOST: u64 = 0x2000;

/// What a descriptor says.
struct Descriptor {
    base: u64,
    limit: u64,
    /// Type, system bit, privilege, present, and above them the flags of the last nibble.
    attributes: u32,
}

impl Descriptor {
    /// From the 8 bytes of the table, and the upper half of the base where the entry has 16.
    fn parse(low: u64, high: Option<u64>) -> Descriptor {
        let base = low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000 | high.unwrap_or(0) << 32;
        let limit = low & 0xffff | low >> 32 & 0xf_0000;
        let attributes = (low >> 40 & 0xff | (low >> 52 & 0xf) << 8) as u32;
        let by_pages = attributes & 0x800 != 0;
        Descriptor { base, limit: if by_pages { limit << 12 | 0xfff } else { limit }, attributes }
    }

    fn is_system(&self) -> bool {
        self.attributes & 0x10 == 0
    }

    fn type_text(&self) -> String {
        let kind = self.attributes & 0xf;
        if self.is_system() {
            return match kind {
                1 => "TSS16 Avl",
                2 => "LDT",
                3 => "TSS16 Busy",
                4 => "CallGate16",
                5 => "TaskGate",
                6 => "Int Gate16",
                7 => "TrapGate16",
                9 => "TSS32 Avl",
                0xb => "TSS32 Busy",
                0xc => "CallGate32",
                0xe => "Int Gate32",
                0xf => "TrapGate32",
                _ => "<Reserved>",
            }
            .to_owned();
        }
        let access = match (kind & 8 != 0, kind >> 1 & 3) {
            (false, 0) => "Data RO",
            (false, 1) => "Data RW",
            (false, 2) => "Data RO",
            (false, _) => "Data RW",
            (true, 0 | 2) => "Code EO",
            (true, _) => "Code RE",
        };
        if kind & 1 != 0 { format!("{access} Ac") } else { access.to_owned() }
    }
}

fn show(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    if scope.target()?.machine() == Machine::Arm64 {
        return Err(Error::Unsupported("arm64 has no segments".to_owned()));
    }
    if call.args.is_empty() {
        return Err(Error::Usage("dg SELECTOR [LAST]".to_owned()));
    }
    let (first, rest) = scope.evaluate_first(call.args)?;
    let last = if rest.is_empty() { first } else { scope.evaluate(rest)? };
    if last < first || last > 0xffff {
        return Err(Error::Usage(format!("range error: {first:x} to {last:x} are no selectors")));
    }
    let (table, limit) = table(&scope)?;
    let wide = scope.pointer_size() == 8;
    let column = if wide { 17 } else { 8 };
    let blank = |text: &str| format!("{text:^column$}");
    out.line(&format!("{} P Si Gr Pr Lo", " ".repeat(4 + 1 + 2 * (column + 1) + 10)));
    let (base, bound) = (blank("Base"), blank("Limit"));
    out.styled(Style::Heading, &format!("Sel  {base} {bound}    Type    l ze an es ng Flags"));
    out.end_line();
    let dashes = "-".repeat(column);
    out.line(&format!("---- {dashes} {dashes} ---------- - -- -- -- -- --------"));
    out.list("descriptors", |out| {
        for index in (first >> 3..=last >> 3).take(MOST as usize) {
            if session.interrupted() {
                return Err(Error::Interrupted);
            }
            let selector = if first == last { first } else { index << 3 };
            if (index << 3 | 7) > limit {
                out.line(&format!("{selector:04x} is beyond the table, whose limit is {limit:x}"));
                break;
            }
            let at = table.add(index << 3);
            let low = read(&scope, at)?;
            let mut found = Descriptor::parse(low, None);
            // In 64-bit mode what belongs to the system has 16 bytes.
            if wide && found.is_system() && found.attributes & 0x80 != 0 {
                found = Descriptor::parse(low, Some(read(&scope, at.add(8))? & 0xffff_ffff));
            }
            out.record("", |out| row(&scope, out, selector, &found));
        }
        Ok(())
    })
}

/// The table and its last byte: of the processor's registers, else of its control region, which does not tell the limit.
fn table(scope: &Scope) -> Result<(Va, u64)> {
    let register = |name: &str| scope.register(name).filter(|value| *value != 0);
    if let Some(table) = register("gdtr") {
        return Ok((Va(table), register("gdtl").unwrap_or(0xffff) & 0xffff));
    }
    let region = ["GdtBase", "GDT"].iter().find_map(|field| scope.kernel_field("$pcr", "_KPCR", field));
    let region = region.filter(|table| *table != 0).map(|table| (Va(table), 0xffff));
    region.ok_or_else(|| {
        Error::NotFound(
            "neither the registers nor the control region of the processor tell its table".to_owned(),
        )
    })
}

fn read(scope: &Scope, at: Va) -> Result<u64> {
    let mut bytes = [0; 8];
    let outcome = scope.read(at, &mut bytes);
    match outcome.fault {
        Some(fault) => Err(Error::Unreadable { at: fault.at, why: fault.why }),
        None => Ok(u64::from_le_bytes(bytes)),
    }
}

fn row(scope: &Scope, out: &Out<'_>, selector: u64, found: &Descriptor) {
    let size = scope.pointer_size();
    let bit =
        |bit: u32, yes: &'static str, no: &'static str| if found.attributes & bit != 0 { yes } else { no };
    out.field("selector", Value::Hex(selector), &format!("{selector:04x} "));
    out.styled_field("base", Value::Hex(found.base), Style::Address, &Va(found.base).show(size).to_string());
    out.text(" ");
    out.field("limit", Value::Hex(found.limit), &Va(found.limit).show(size).to_string());
    let kind = found.type_text();
    out.field("type", Value::Text(&kind), &format!(" {kind:<10} "));
    out.text(&format!("{} ", found.attributes >> 5 & 3));
    let (wide, pages) = (bit(0x400, "Bg", "Nb"), bit(0x800, "Pg", "By"));
    let (present, long) = (bit(0x80, "P ", "Np"), bit(0x200, "Lo", "Nl"));
    out.text(&format!("{wide} {pages} {present} {long} "));
    out.field("flags", Value::Hex(found.attributes.into()), &format!("{:08x}", found.attributes));
    out.end_line();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_read_as_the_processor_reads_them() {
        let flat = Descriptor::parse(0x00cf_9b00_0000_ffff, None);
        assert_eq!((flat.base, flat.limit, flat.attributes), (0, 0xffff_ffff, 0xc9b));
        assert_eq!(flat.type_text(), "Code RE Ac");
        let data = Descriptor::parse(0x80cf_f312_3456_ffff, None);
        assert_eq!((data.base, data.type_text().as_str()), (0x8012_3456, "Data RW Ac"));
        let task = Descriptor::parse(0x6b00_8ba0_d000_0067, Some(0xffff_f804));
        assert_eq!((task.base, task.limit), (0xffff_f804_6ba0_d000, 0x67));
        assert!(task.is_system() && task.type_text() == "TSS32 Busy");
        assert_eq!(Descriptor::parse(0, None).type_text(), "<Reserved>");
    }
}
