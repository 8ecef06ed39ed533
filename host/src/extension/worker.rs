//! Runs one command of an extension on a thread of its own, and serves it from the main thread meanwhile.
//!
//! A fresh thread for each command, joined before anything else happens: it gives the command a private stack, lets
//! Ctrl+C leave a command that does not listen, and leaves no thread-local destructors behind that would keep the
//! library mapped. The worker fills a queue of events; the main thread drains it every few milliseconds into the
//! renderers, so that only one thread ever writes to the terminal.

use super::bridge::Bridge;
use super::events::EventQueue;
use super::loader::Loaded;
use crate::scope::Scope;
use kd_sdk::abi::status;
use kd_sdk::output::Event;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the main thread looks at the queue while a command runs.
const TICK: Duration = Duration::from_millis(10);
/// A command that makes output faster than the console takes it waits at this many queued bytes. They are still shown
/// after Ctrl+C, so this is also what a user waits for.
const QUEUE_LIMIT: usize = 512 << 10;
/// Stack of a command.
const STACK: usize = 8 << 20;
/// After this time without an answer to Ctrl+C the user is told what a second one does.
const PATIENCE: Duration = Duration::from_secs(1);
/// In [`Shared::interrupt`]: Ctrl+C was pressed.
const STOP: u32 = 1;
/// In [`Shared::interrupt`]: nobody waits for the command any more.
const ABANDONED: u32 = 2;

/// What the worker and the main thread share.
pub struct Shared {
    state: Mutex<State>,
    to_main: Condvar,
    to_worker: Condvar,
    /// Nonzero after Ctrl+C; extensions poll it.
    pub interrupt: AtomicU32,
}

#[derive(Default)]
struct State {
    events: EventQueue,
    progress: Option<(u64, u64, String)>,
    request: Option<String>,
    reply: Option<(i32, String)>,
    finished: Option<i32>,
    abandoned: bool,
}

/// What a running command needs of the main thread.
pub trait Main {
    /// Renders an event.
    fn emit(&mut self, event: &Event<'_>);
    /// Shows progress.
    fn progress(&mut self, done: u64, total: u64, label: &str);
    /// Runs a command line and returns its status and text.
    fn execute(&mut self, line: &str) -> (i32, String);
    /// True once for each Ctrl+C.
    fn take_interrupt(&mut self) -> bool;
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// With this status.
    Status(i32),
    /// It ignored Ctrl+C twice and was left behind; its library stays mapped for good.
    Abandoned,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            state: Mutex::default(),
            to_main: Condvar::new(),
            to_worker: Condvar::new(),
            interrupt: AtomicU32::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once nobody waits for the command any more.
    pub fn is_abandoned(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed) == ABANDONED
    }

    /// Lets a waiting worker go: nobody will answer it.
    fn abandon(&self) {
        self.interrupt.store(ABANDONED, Ordering::Relaxed);
        self.lock().abandoned = true;
        self.to_worker.notify_all();
    }

    /// Queues an event; waits while the console is far behind.
    pub fn emit(&self, event: &Event<'_>) {
        let mut state = self.lock();
        while state.events.weight() > QUEUE_LIMIT && !state.abandoned {
            self.to_main.notify_one();
            state = self.to_worker.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.abandoned {
            state.events.push(event);
        }
    }

    /// Leaves the latest progress for the main thread.
    pub fn progress(&self, done: u64, total: u64, label: &str) {
        self.lock().progress = Some((done, total, label.to_owned()));
    }

    /// Has the main thread run a command line; waits for its text.
    pub fn execute(&self, line: &str) -> (i32, String) {
        let mut state = self.lock();
        state.request = Some(line.to_owned());
        self.to_main.notify_one();
        loop {
            if let Some(reply) = state.reply.take() {
                return reply;
            }
            if state.abandoned {
                return (status::INTERRUPTED, String::new());
            }
            state = self.to_worker.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What is called in an extension.
#[derive(Clone, Debug)]
pub enum Work {
    /// A command by index, with its arguments.
    Command(u32, String),
    /// One of [`kd_sdk::abi::event`], with its argument.
    Note(u32, u64),
}

/// Runs a command of `extension` and serves it until it has ended.
pub fn run(extension: &Arc<Loaded>, work: Work, scope: Scope, main: &mut dyn Main) -> std::io::Result<Ended> {
    let shared = Arc::new(Shared::new());
    let thread = {
        let (shared, extension) = (Arc::clone(&shared), Arc::clone(extension));
        std::thread::Builder::new().name(format!("!{}", extension.name)).stack_size(STACK).spawn(
            move || {
                let bridge = Bridge::new(Arc::clone(&shared), scope);
                let code = bridge.with_host(|host| match &work {
                    Work::Command(index, args) => extension.run(host, *index, args),
                    Work::Note(event, argument) => extension.notify(host, *event, *argument),
                });
                // The library may be closed as soon as the main thread hears of the end.
                drop(extension);
                shared.lock().finished = Some(code);
                shared.to_main.notify_one();
            },
        )?
    };
    let guard = Leave { shared: &shared, extension };
    let mut asked_to_stop: Option<Instant> = None;
    let mut state = shared.lock();
    let code = loop {
        let events = std::mem::take(&mut state.events);
        let progress = state.progress.take();
        let request = state.request.take();
        let finished = state.finished;
        let quiet = events.is_empty() && progress.is_none() && request.is_none() && finished.is_none();
        drop(state);
        shared.to_worker.notify_one();
        events.replay(&mut |event| main.emit(event));
        if let Some((done, total, label)) = progress {
            main.progress(done, total, &label);
        }
        if let Some(line) = request {
            let reply = main.execute(&line);
            if reply.0 == status::INTERRUPTED {
                // Ctrl+C that stopped the inner command is meant for this one too.
                shared.interrupt.store(STOP, Ordering::Relaxed);
                asked_to_stop.get_or_insert_with(Instant::now);
            }
            shared.lock().reply = Some(reply);
            shared.to_worker.notify_one();
        }
        if let Some(code) = finished {
            break code;
        }
        if main.take_interrupt() {
            if asked_to_stop.is_some() {
                // `guard` leaves the thread behind.
                return Ok(Ended::Abandoned);
            }
            shared.interrupt.store(STOP, Ordering::Relaxed);
            asked_to_stop = Some(Instant::now());
        }
        if quiet && asked_to_stop.is_some_and(|first| first.elapsed() > PATIENCE) {
            main.progress(0, 0, "waiting for the command to stop; Ctrl+C again leaves it behind");
        }
        if quiet && thread.is_finished() && shared.lock().finished.is_none() {
            break status::PANICKED;
        }
        state = shared.lock();
        if quiet && state.finished.is_none() && state.request.is_none() {
            state = shared.to_main.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    };
    std::mem::forget(guard);
    // A panic of the thread itself was already turned into a status.
    let _ = thread.join();
    Ok(Ended::Status(code))
}

/// The way out while the thread still runs, be it a deaf command or a panic of the main thread: the library must
/// stay mapped for good, and nobody may wait for an answer.
struct Leave<'a> {
    shared: &'a Shared,
    extension: &'a Loaded,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.extension.pin();
        self.shared.abandon();
    }
}
