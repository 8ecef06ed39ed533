//! `!locks`: arguments and output.

use crate::deadlock;
use kd_sdk::nt::lock::{Locks, Owner, Resource, ThreadFacts};
use kd_sdk::nt::salvage::Salvaged;
use kd_sdk::nt::wait::Kind;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::stacks::Context;

/// Resources that `-p` names as the most contended.
const MOST_CONTENDED: usize = 10;
/// Threads of one resource that `-v` describes, and frames of each.
const MOST_DESCRIBED: usize = 1000;
const MOST_FRAMES: u32 = 50;

/// Problems that are shown to people.
const MOST_PROBLEMS: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Options {
    verbose: bool,
    performance: bool,
    all: bool,
    deadlock: bool,
}

impl Options {
    /// Takes the options; what follows them is the address.
    fn parse<'t>(args: &mut Args<'t>) -> Result<(Options, &'t str)> {
        let mut options = Options::default();
        while let Some(option) = args.option() {
            match option {
                "v" | "V" => options.verbose = true,
                "p" | "P" => options.performance = true,
                "d" | "D" => options.all = true,
                "deadlock" => options.deadlock = true,
                other => {
                    return Err(Error::Usage(format!("unknown option '-{other}': -v, -p, -d or -deadlock")));
                }
            }
        }
        Ok((options, args.rest()))
    }
}

/// Runs the command.
pub fn locks(session: &Session<'_>, args: &str) -> Result<()> {
    let (options, address) = Options::parse(&mut Args::new(args))?;
    let address = if address.is_empty() { 0 } else { session.evaluate(address)? };
    let locks = Locks::new(session)?;
    if options.deadlock {
        return deadlock::deadlock(session, &locks);
    }
    let view = View { session, out: session.out(), locks, options };
    if address == 0 { view.list() } else { view.one(Va(address)) }
}

/// The system's resources; where its list cannot be read that is said of the list.
pub fn resources(session: &Session<'_>, locks: &Locks<'_>) -> Result<Salvaged> {
    locks.resources().map_err(|error| match error {
        Error::Unreadable { .. } => {
            Error::Other(format!("the list of resources: {}", session.explain(&error)))
        }
        other => other,
    })
}

/// An address as KD's lists have it, without the tick.
pub fn plain(session: &Session<'_>, va: Va) -> String {
    if session.target().pointer_size() == 4 { format!("{:08x}", va.0) } else { format!("{:016x}", va.0) }
}

/// The symbol that stands at an address, `nt!CmpRegistryLock`.
pub fn symbol(session: &Session<'_>, va: Va) -> Option<String> {
    session.symbols().name(va)
}

/// `0004.0034 System`.
pub fn title(facts: &ThreadFacts) -> String {
    format!("{:04x}.{:04x} {}", facts.process_id, facts.thread_id, facts.image)
}

/// The values of a thread for programs.
pub fn thread_data(out: &Out<'_>, facts: &ThreadFacts) {
    out.data("process", Value::Hex(facts.process.0));
    out.data("process_id", Value::Hex(facts.process_id));
    out.data("thread_id", Value::Hex(facts.thread_id));
    out.data("image", Value::Text(&facts.image));
    out.data("state", Value::Text(&facts.state));
    let reason = if facts.reason.is_empty() { Value::Null } else { Value::Text(&facts.reason) };
    out.data("reason", reason);
}

/// What was said to be wrong.
pub fn problems(out: &Out<'_>, indent: &str, list: &[String]) {
    out.list("problems", |out| {
        for (index, problem) in list.iter().enumerate() {
            if index < MOST_PROBLEMS {
                out.styled_field("", Value::Text(problem), Style::Bad, &format!("{indent}*** {problem}"));
                out.end_line();
            } else {
                out.data("", Value::Text(problem));
            }
        }
    });
    if list.len() > MOST_PROBLEMS {
        out.line(&format!("{indent}*** and {} more", list.len() - MOST_PROBLEMS));
    }
}

struct View<'a> {
    session: &'a Session<'a>,
    out: Out<'a>,
    locks: Locks<'a>,
    options: Options,
}

impl View<'_> {
    fn one(&self, at: Va) -> Result<()> {
        let resource = self.locks.resource(at)?;
        self.out.end_line();
        self.out.list("resources", |_| self.resource(&resource))?;
        self.totals(1, resource.is_held().into(), true);
        problems(&self.out, "", &[]);
        Ok(())
    }

    fn list(&self) -> Result<()> {
        let out = self.out;
        let found = resources(self.session, &self.locks)?;
        let mut wrong = found.problems.clone();
        out.styled(Style::Heading, "**** DUMP OF ALL RESOURCE OBJECTS ****");
        out.end_line();
        out.line("KD: Scanning for held locks...");
        out.end_line();
        let (mut total, mut held) = (0, 0);
        let mut contended = Vec::new();
        let show_all = self.options.all || self.options.performance;
        out.list("resources", |out| {
            for (index, &at) in found.entries.iter().enumerate() {
                self.session.check_interrupt()?;
                if index % 0x100 == 0 {
                    self.session.progress(index as u64, found.entries.len() as u64, "resources");
                }
                if found.from_end > 0 && index == found.entries.len() - found.from_end {
                    out.styled(
                        Style::Bad,
                        "*** the list cannot be followed here; what comes next was reached from its end",
                    );
                    out.end_line();
                }
                let resource = match self.locks.resource(at) {
                    Ok(resource) => resource,
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        wrong.push(format!("resource {}: {}", self.show(at), self.session.explain(&error)));
                        continue;
                    }
                };
                total += 1;
                held += u64::from(resource.is_held());
                if show_all || resource.is_held() || resource.is_contended() {
                    self.resource(&resource)?;
                }
                contended.push((resource.contention, at));
            }
            Ok(())
        })?;
        if self.options.performance {
            self.most_contended(contended, wrong.is_empty());
        }
        self.totals(total, held, wrong.is_empty());
        problems(&out, "", &wrong);
        Ok(())
    }

    fn totals(&self, total: u64, held: u64, complete: bool) {
        let out = self.out;
        let none = total == 0 && !complete;
        let (first, second) = match none {
            true => ("No resource could be read.".to_owned(), String::new()),
            false => (format!("{total} total locks"), format!(", {held} locks currently held")),
        };
        out.field("total", Value::UInt(total), &first);
        out.field("held", Value::UInt(held), &second);
        out.data("complete", Value::Bool(complete));
        if !complete && !none {
            out.styled(Style::Bad, " (not all of the list could be read)");
        }
        out.end_line();
    }

    fn show(&self, va: Va) -> String {
        plain(self.session, va)
    }

    fn resource(&self, resource: &Resource) -> Result<()> {
        let out = self.out;
        out.record("", |out| {
            let name = symbol(self.session, resource.at);
            out.data("resource", Value::Hex(resource.at.0));
            out.data("name", name.as_deref().map_or(Value::Null, Value::Text));
            let address = format!("0x{}", self.show(resource.at));
            let text = match &name {
                Some(name) => format!("{name} ({address})"),
                None => address.clone(),
            };
            out.text("Resource @ ");
            out.link(&text, &format!("!locks -v {address}"));
            self.state(resource);
            self.counters(resource);
            out.list("owners", |_| self.owners(resource));
            self.waiters("waiting_shared", "Threads Waiting On Shared Access:", &resource.waiting_shared);
            self.waiters(
                "waiting_exclusive",
                "Threads Waiting On Exclusive Access:",
                &resource.waiting_exclusive,
            );
            if self.options.verbose {
                self.threads(resource)?;
            }
            problems(out, "    ", &resource.problems);
            Ok(())
        })
    }

    fn state(&self, resource: &Resource) {
        let (state, shown) = match (resource.is_held(), resource.exclusive) {
            (false, _) => ("free", "Available".to_owned()),
            (true, true) => ("exclusive", "Exclusively owned".to_owned()),
            (true, false) => ("shared", format!("Shared {} owning threads", resource.active)),
        };
        self.out.field("state", Value::Text(state), &format!("    {shown}"));
        self.out.end_line();
    }

    fn counters(&self, resource: &Resource) {
        for (key, text, count) in [
            ("contention", "Contention Count", resource.contention),
            ("shared_waiters", "NumberOfSharedWaiters", resource.shared_waiters),
            ("exclusive_waiters", "NumberOfExclusiveWaiters", resource.exclusive_waiters),
        ] {
            // KD leaves zeros out.
            if count == 0 && !self.options.performance {
                self.out.data(key, Value::UInt(0));
            } else {
                self.out.field(key, Value::UInt(count), &format!("    {text} = {count}"));
                self.out.end_line();
            }
        }
    }

    fn owners(&self, resource: &Resource) {
        let out = self.out;
        let mut fresh = true;
        for (index, owner) in resource.owners.iter().enumerate() {
            if fresh {
                out.text(if index == 0 { "     Threads: " } else { "              " });
            }
            self.owner(owner);
            fresh = index % 4 == 3 || owner.is_tagged() || !owner.is_thread;
            if fresh {
                out.end_line();
            }
        }
        if !fresh {
            out.end_line();
        }
    }

    fn owner(&self, owner: &Owner) {
        self.out.record("", |out| {
            out.data("owner", Value::Hex(owner.raw.0));
            out.data("thread", Value::Hex(owner.thread.0));
            out.data("is_thread", Value::Bool(owner.is_thread));
            self.thread_link(&self.show(owner.raw), owner.thread, owner.is_thread);
            let mark = if owner.count == 0 { "" } else { "<*>" };
            out.field("count", Value::UInt(owner.count), &format!("-{:02x}{mark}    ", owner.count));
            if owner.is_tagged() && owner.is_thread {
                out.text("*** Actual Thread ");
                self.thread_link(&self.show(owner.thread), owner.thread, true);
            } else if !owner.is_thread {
                out.styled(Style::Bad, "*** no thread object stands there");
            }
        });
    }

    fn thread_link(&self, text: &str, thread: Va, is_thread: bool) {
        if is_thread {
            self.out.link(text, &format!("!thread {}", self.show(thread)));
        } else {
            self.out.text(text);
        }
    }

    fn waiters(&self, key: &str, title: &str, threads: &[Va]) {
        let out = self.out;
        if !threads.is_empty() {
            out.line(&format!("     {title}"));
        }
        out.list(key, |out| {
            for (index, &thread) in threads.iter().enumerate() {
                out.text(if index % 4 == 0 { "              " } else { "    " });
                out.field("", Value::Hex(thread.0), "");
                self.thread_link(&self.show(thread), thread, true);
                if index % 4 == 3 || index + 1 == threads.len() {
                    out.end_line();
                }
            }
        });
    }

    /// Owners and waiters, a line each.
    fn threads(&self, resource: &Resource) -> Result<()> {
        let owners = resource.owners.iter().filter(|owner| owner.is_thread).map(|owner| owner.thread);
        let waiting = resource.waiting_shared.iter().chain(&resource.waiting_exclusive).copied();
        let mut all: Vec<Va> = Vec::new();
        for thread in owners.chain(waiting) {
            if !all.contains(&thread) && all.len() < MOST_DESCRIBED {
                all.push(thread);
            }
        }
        self.out.list("threads", |out| {
            for thread in all {
                self.session.check_interrupt()?;
                match self.locks.describe(thread) {
                    Ok(facts) => self.thread(&facts)?,
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        out.text(&format!("     THREAD {}  ", self.show(thread)));
                        out.styled(Style::Bad, &error.to_string());
                        out.end_line();
                    }
                }
            }
            Ok(())
        })
    }

    fn thread(&self, facts: &ThreadFacts) -> Result<()> {
        let wait = self.locks.wait_of(facts.at).unwrap_or_default();
        self.out.record("", |out| {
            out.data("thread", Value::Hex(facts.at.0));
            thread_data(out, facts);
            out.text("     THREAD ");
            self.thread_link(&self.show(facts.at), facts.at, true);
            out.text(&format!("  Cid {}  {}", title(facts), facts.state));
            if !facts.reason.is_empty() {
                out.text(&format!(": ({})", facts.reason));
            }
            out.end_line();
            out.list("waits_for", |out| {
                for object in &wait.objects {
                    out.field(
                        "",
                        Value::Hex(object.0),
                        &format!("         waits for {}", self.show(*object)),
                    );
                    let kind = self.locks.kind(*object);
                    out.text(&format!("  {}", kind.as_ref().map_or("unknown object", Kind::name)));
                    out.text(
                        &symbol(self.session, *object).map_or(String::new(), |name| format!("  {name}")),
                    );
                    out.end_line();
                }
            });
            match self.session.stack(Context::Thread(facts.at)).show(MOST_FRAMES, 0, 9) {
                Ok(()) => Ok(()),
                Err(Error::Interrupted) => Err(Error::Interrupted),
                Err(error) => {
                    out.line(&format!("         no stack: {error}"));
                    Ok(())
                }
            }
        })
    }

    fn most_contended(&self, mut contended: Vec<(u64, Va)>, complete: bool) {
        contended.retain(|(count, _)| *count > 0);
        contended.sort_by_key(|&(count, at)| (core::cmp::Reverse(count), at));
        contended.truncate(MOST_CONTENDED);
        let out = self.out;
        out.end_line();
        let title = match (contended.is_empty(), complete) {
            (false, _) => "Most contended:",
            (true, true) => "No contention.",
            (true, false) => "No contention of those that could be read.",
        };
        out.styled(Style::Heading, title);
        out.end_line();
        out.list("most_contended", |out| {
            for (count, at) in contended {
                let name = symbol(self.session, at).map_or(String::new(), |name| format!("  {name}"));
                out.text(&format!("{count:10}  "));
                out.field("", Value::Hex(at.0), &format!("{}{name}", self.show(at)));
                out.end_line();
            }
        });
        out.end_line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let parse = |text: &'static str| Options::parse(&mut Args::new(text));
        let plain = Options::default();
        assert_eq!(parse(""), Ok((plain, "")));
        assert_eq!(parse("poi(rcx) + 8"), Ok((plain, "poi(rcx) + 8")));
        assert_eq!(
            parse("-v /p 80551020"),
            Ok((Options { verbose: true, performance: true, ..plain }, "80551020"))
        );
        assert_eq!(parse("-d -deadlock"), Ok((Options { all: true, deadlock: true, ..plain }, "")));
        assert!(parse("-x").is_err());
    }
}
