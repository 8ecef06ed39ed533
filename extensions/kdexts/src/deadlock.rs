//! `!locks -deadlock`: what waits for what, and the circles in it.

use crate::graph::{self, Circle};
use crate::locks::{plain, problems, symbol, thread_data, title};
use kd_sdk::nt::lock::Locks;
use kd_sdk::nt::wait::Kind;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::stacks::Context;
use std::collections::HashSet;

/// Heads of queues and waiters that are shown.
const MOST_SHOWN: usize = 20;
/// Frames in which a driver is looked for.
const MOST_FRAMES: u32 = 50;

/// A wait of one thread for another.
struct Edge {
    waiter: Va,
    owner: Va,
    kind: &'static str,
    lock: Va,
    /// `shared` or `exclusive`, of resources.
    access: Option<&'static str>,
}

/// Runs `!locks -deadlock`.
pub fn deadlock(session: &Session<'_>, locks: &Locks<'_>) -> Result<()> {
    let mut wrong = Vec::new();
    let mut edges = resources(session, locks, &mut wrong)?;
    let threads = waits(session, locks, &mut edges, &mut wrong)?;
    let pairs: Vec<(u64, u64)> = edges.iter().map(|edge| (edge.waiter.0, edge.owner.0)).collect();
    let found = graph::search(&pairs);
    let view = View { session, locks, out: session.out(), edges };
    let out = view.out;
    if found.circles.is_empty() {
        out.line(match (wrong.is_empty(), threads) {
            (true, _) => "No threads wait in a circle.",
            (false, 0) => "No thread could be read.",
            (false, _) => "No threads wait in a circle, among those that could be read.",
        });
        out.end_line();
    }
    out.list("deadlocks", |_| {
        for (index, circle) in found.circles.iter().enumerate() {
            view.circle(index + 1, circle);
        }
    });
    view.heads(&found.heads);
    out.field("threads", Value::UInt(threads), &format!("{threads} threads were looked at"));
    let counted = view.edges.len();
    out.field("waits", Value::UInt(counted as u64), &format!(", {counted} waits of one for another found"));
    out.data("complete", Value::Bool(wrong.is_empty()));
    out.end_line();
    problems(&out, "", &wrong);
    Ok(())
}

/// Waits for resources.
fn resources(session: &Session<'_>, locks: &Locks<'_>, wrong: &mut Vec<String>) -> Result<Vec<Edge>> {
    let mut edges = Vec::new();
    let found = crate::locks::resources(session, locks)?;
    wrong.extend(found.problems);
    for at in found.entries {
        session.check_interrupt()?;
        let resource = match locks.resource(at) {
            Ok(resource) => resource,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                wrong.push(format!("resource {}: {}", plain(session, at), session.explain(&error)));
                continue;
            }
        };
        let waiting = [("shared", &resource.waiting_shared), ("exclusive", &resource.waiting_exclusive)];
        for (access, threads) in waiting {
            for &waiter in threads {
                let owners = resource.owners.iter().filter(|owner| owner.count > 0 && owner.is_thread);
                edges.extend(owners.map(|owner| Edge {
                    waiter,
                    owner: owner.thread,
                    kind: "resource",
                    lock: at,
                    access: Some(access),
                }));
            }
        }
    }
    Ok(edges)
}

/// Waits for mutants and for threads to end. Gives the number of threads.
fn waits(
    session: &Session<'_>,
    locks: &Locks<'_>,
    edges: &mut Vec<Edge>,
    wrong: &mut Vec<String>,
) -> Result<u64> {
    let (listed, not_followed) = locks.threads();
    wrong.extend(not_followed.iter().cloned());
    // A broken list of threads need not hide those that resources know.
    let known = edges.iter().flat_map(|edge| [edge.waiter, edge.owner]);
    let all: HashSet<Va> = listed.iter().copied().chain(known).collect();
    let mut all: Vec<Va> = all.into_iter().collect();
    all.sort_unstable();
    for &waiter in &all {
        session.check_interrupt()?;
        let Ok(wait) = locks.wait_of(waiter) else { continue };
        if wait.any && wait.objects.len() > 1 {
            continue;
        }
        for lock in wait.objects {
            let (kind, owner) = match locks.kind(lock) {
                Some(Kind::Mutant { owner }) => {
                    ("mutant", Some(owner).filter(|owner| locks.is_thread(*owner)))
                }
                Some(Kind::Thread) => ("thread", Some(lock)),
                _ => continue,
            };
            edges.extend(owner.map(|owner| Edge { waiter, owner, kind, lock, access: None }));
        }
    }
    Ok(all.len() as u64)
}

struct View<'a> {
    session: &'a Session<'a>,
    locks: &'a Locks<'a>,
    out: Out<'a>,
    edges: Vec<Edge>,
}

impl View<'_> {
    fn show(&self, va: Va) -> String {
        plain(self.session, va)
    }

    fn circle(&self, number: usize, circle: &Circle) {
        let out = self.out;
        let title = match circle.edges.len() {
            1 => format!("DEADLOCK {number}: a thread waits for itself"),
            count => format!("DEADLOCK {number}: {count} threads wait for each other"),
        };
        out.styled(Style::Bad, &title);
        out.end_line();
        out.record("", |out| {
            out.list("chain", |_| {
                for edge in circle.edges.iter().filter_map(|&index| self.edges.get(index)) {
                    self.link(edge);
                }
            });
            if let Some(first) = circle.edges.first().and_then(|&index| self.edges.get(index)) {
                out.line(&format!("  and so back to thread {}", self.show(first.waiter)));
            }
            let count = circle.behind.len();
            if count > 0 {
                out.line(&format!("  {count} more wait behind them:"));
            }
            out.list("behind", |out| {
                for (index, &thread) in circle.behind.iter().enumerate() {
                    out.data("", Value::Hex(thread));
                    if index < MOST_SHOWN {
                        out.text("    ");
                        self.thread(Va(thread));
                        out.end_line();
                    }
                }
            });
            if count > MOST_SHOWN {
                out.line(&format!("    and {} more", count - MOST_SHOWN));
            }
        });
        out.end_line();
    }

    /// `THREAD … Cid … image`, and its values where `data` is asked for.
    fn thread(&self, thread: Va) {
        self.out.text("THREAD ");
        self.out.link(&self.show(thread), &format!("!thread {}", self.show(thread)));
        if let Ok(facts) = self.locks.describe(thread) {
            self.out.text(&format!("  Cid {}", title(&facts)));
        }
    }

    /// The innermost place on a thread's stack outside of the kernel: who asked for the lock.
    fn place(&self, thread: Va) -> Option<String> {
        let frames = self.session.stack(Context::Thread(thread)).frames(MOST_FRAMES).ok()?;
        let target = self.session.target();
        let outside =
            |va: Va| target.is_kernel(va) && target.module_at(va).is_some_and(|module| !module.is_kernel);
        frames.into_iter().find(|frame| outside(frame.ip)).map(|frame| frame.site)
    }

    fn link(&self, edge: &Edge) {
        self.out.record("", |out| {
            out.data("thread", Value::Hex(edge.waiter.0));
            if let Ok(facts) = self.locks.describe(edge.waiter) {
                thread_data(out, &facts);
            }
            let name = symbol(self.session, edge.lock);
            out.data("kind", Value::Text(edge.kind));
            out.data("lock", Value::Hex(edge.lock.0));
            out.data("name", name.as_deref().map_or(Value::Null, Value::Text));
            out.data("access", edge.access.map_or(Value::Null, Value::Text));
            out.data("owner", Value::Hex(edge.owner.0));
            out.text("  ");
            self.thread(edge.waiter);
            let place = self.place(edge.waiter);
            out.data("at", place.as_deref().map_or(Value::Null, Value::Text));
            out.line(&place.map_or(String::new(), |place| format!("  in {place}")));
            let lock = format!("0x{}", self.show(edge.lock));
            let what = name.map_or(lock.clone(), |name| format!("{name} ({lock})"));
            match edge.kind {
                "resource" => {
                    out.text(&format!("    waits for {} access to resource ", edge.access.unwrap_or("any")));
                    out.link(&what, &format!("!locks -v {lock}"));
                }
                "mutant" => {
                    out.text("    waits for mutant ");
                    out.link(&what, &format!("dt nt!_KMUTANT {lock}"));
                }
                _ => out.text("    waits for the end of thread "),
            }
            if edge.kind != "thread" {
                out.text(", owned by thread ");
            }
            out.link(&self.show(edge.owner), &format!("!thread {}", self.show(edge.owner)));
            out.end_line();
        });
    }

    /// Owners that wait for none of these locks: whatever holds them up, holds up all behind them.
    fn heads(&self, heads: &[(u64, usize)]) {
        let out = self.out;
        if !heads.is_empty() {
            out.styled(Style::Heading, "Threads that others wait behind:");
            out.end_line();
        }
        out.list("blockers", |_| {
            heads.iter().take(MOST_SHOWN).for_each(|&(thread, count)| self.head(thread, count))
        });
        if heads.len() > MOST_SHOWN {
            out.line(&format!("  and {} more", heads.len() - MOST_SHOWN));
        }
        if !heads.is_empty() {
            out.end_line();
        }
    }

    fn head(&self, thread: u64, waiters: usize) {
        self.out.record("", |out| {
            out.data("thread", Value::Hex(thread));
            out.text("  ");
            self.thread(Va(thread));
            if let Ok(facts) = self.locks.describe(Va(thread)) {
                thread_data(out, &facts);
                out.text(&format!("  {}", facts.state));
                if !facts.reason.is_empty() {
                    out.text(&format!(": ({})", facts.reason));
                }
            }
            out.field("waiters", Value::UInt(waiters as u64), &format!(", {waiters} behind it"));
            out.end_line();
            let mut locks: Vec<(&str, Va)> = self
                .edges
                .iter()
                .filter(|edge| edge.owner.0 == thread)
                .map(|edge| (edge.kind, edge.lock))
                .collect();
            locks.sort_unstable();
            locks.dedup();
            out.list("locks", |out| {
                for (kind, lock) in locks {
                    let name = symbol(self.session, lock).map_or(String::new(), |name| format!("  {name}"));
                    let text = match kind {
                        "thread" => "    its end is waited for".to_owned(),
                        kind => format!("    has {kind} 0x{}{name}", self.show(lock)),
                    };
                    out.field("", Value::Hex(lock.0), &text);
                    out.end_line();
                }
            });
        });
    }
}
