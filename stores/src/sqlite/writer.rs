//! The one writer of a file: a thread that takes whatever queued up into one transaction, and answers after the
//! commit those who asked for that, the others as soon as their work is in.
//!
//! ```text
//! write(Sync)  ─┐                 ┌ savepoint, work, release ┐
//! write(Async) ─┼▶ bounded queue ▶┤ savepoint, work, release ├▶ COMMIT ▶ answers the Sync ones
//! flush()      ─┘                 └ … until the queue is empty┘
//! ```

use super::{
    fault::{Work, codes, explain_codes},
    file::PATIENCE,
};
use rusqlite::{Connection, ErrorCode, ffi};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use stepwell_core::{Error, Result, store::Durability};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many tasks may wait; who comes later waits outside.
const QUEUE: usize = 1_024;
/// Most tasks of one commit.
const MAX_GROUP: usize = 512;
/// How long work that nobody waits for may stay uncommitted: one flush of the disk then covers many appends.
const LINGER: Duration = Duration::from_millis(20);

/// What the writer and the others both see.
pub(super) struct Shared {
    path: Arc<Path>,
    pub(super) commits: AtomicU64,
    /// Work was acknowledged that only the writer's connection can see.
    pub(super) has_uncommitted: AtomicBool,
}

impl Shared {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            commits: AtomicU64::new(0),
            has_uncommitted: AtomicBool::new(false),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A piece of work that waits for its turn, then for its commit.
trait Job: Send {
    /// Does it inside a savepoint; whether to keep it.
    fn run(&mut self, db: &Connection, path: &Path) -> bool;
    fn is_sync(&self) -> bool;
    /// Whether it failed for want of room.
    fn is_full(&self) -> bool;
    /// Tells the result, or what became of the commit. Nobody may listen any more.
    fn answer(&mut self, commit: Result<()>);
}

struct Call<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    reply: Option<oneshot::Sender<Result<T>>>,
    durability: Durability,
    _room: OwnedSemaphorePermit,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Work<T> + Send,
{
    fn run(&mut self, db: &Connection, path: &Path) -> bool {
        let result = match self.work.take() {
            Some(work) => work(db).map_err(|fault| fault.explain(path)),
            None => Err(Error::internal("a write ran twice")),
        };
        let is_kept = result.is_ok();
        self.result = Some(result);
        is_kept
    }

    fn is_sync(&self) -> bool {
        self.durability == Durability::Sync
    }

    fn is_full(&self) -> bool {
        matches!(self.result, Some(Err(Error::DiskFull { .. })))
    }

    fn answer(&mut self, commit: Result<()>) {
        let result = match (commit, self.result.take()) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(Error::internal("a write was answered before it ran")),
        };
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(result); // the caller may have gone; what was written stays
        }
    }
}

enum Task {
    Write(Box<dyn Job>),
    Read(Box<dyn FnOnce(&Connection) + Send>),
    Flush(oneshot::Sender<Result<()>>),
}

/// The way to the writing thread. Dropping it commits what is left and ends the thread.
pub(super) struct Writer {
    tasks: Option<mpsc::Sender<Task>>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(db: Connection, shared: Arc<Shared>) -> Result<Self> {
        let (tasks, queue) = mpsc::channel();
        let own = Turn {
            db,
            queue,
            shared: Arc::clone(&shared),
            opened: None,
            waiting: Vec::new(),
            taken: 0,
            lost: None,
            broken: None,
        };
        let thread = thread::Builder::new()
            .name("stepwell-store".to_owned())
            .spawn(move || own.drive())
            .map_err(|error| Error::io("starting the store's writer", error))?;
        Ok(Self {
            tasks: Some(tasks),
            room: Arc::new(Semaphore::new(QUEUE)),
            shared,
            thread: Some(thread),
        })
    }

    pub(super) async fn write<T, F>(&self, durability: Durability, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Work<T> + Send + 'static,
    {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        self.send(Task::Write(Box::new(Call {
            work: Some(work),
            result: None,
            reply: Some(reply),
            durability,
            _room: room.map_err(|_| ended())?,
        })))?;
        answer.await.map_err(|_| ended())?
    }

    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Work<T> + Send + 'static,
    {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.map_err(|_| ended())?;
        let (reply, answer) = oneshot::channel();
        self.send(Task::Read(Box::new(move |db| {
            let _ = reply.send(work(db)); // the caller may have gone
            drop(room);
        })))?;
        let result = answer.await.map_err(|_| ended())?;
        result.map_err(|fault| fault.explain(self.shared.path()))
    }

    pub(super) async fn flush(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Task::Flush(reply))?;
        answer.await.map_err(|_| ended())?
    }

    fn send(&self, task: Task) -> Result<()> {
        let tasks = self.tasks.as_ref().ok_or_else(ended)?;
        tasks.send(task).map_err(|_| ended())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it panicked: then there is nothing left to commit
        }
    }
}

fn ended() -> Error {
    Error::internal("the store's writer ended early")
}

/// The writing thread's own.
struct Turn {
    db: Connection,
    queue: Receiver<Task>,
    shared: Arc<Shared>,
    /// When the open transaction began; `None` between transactions.
    opened: Option<Instant>,
    /// Done, to be answered after the commit.
    waiting: Vec<Box<dyn Job>>,
    /// Done and answered, to be committed.
    taken: usize,
    /// Answered work was lost with a failed commit: the next flush tells.
    lost: Option<ffi::Error>,
    /// The disk failed under a commit. What it kept is unknown, so this handle writes no more.
    broken: Option<ffi::Error>,
}

impl Turn {
    fn drive(mut self) {
        while let Some(task) = self.next() {
            match task {
                Task::Read(read) => read(&self.db),
                Task::Flush(reply) => {
                    self.commit();
                    let fate = self
                        .lost
                        .take()
                        .or(self.broken)
                        .map_or(Ok(()), |codes| Err(explain_codes(codes, self.shared.path())));
                    let _ = reply.send(fate); // nobody listens: nothing to do
                }
                Task::Write(job) => self.take(job),
            }
        }
        self.commit();
    }

    /// The next task; commits on the way whenever the group is due. `None` when every handle is gone.
    fn next(&mut self) -> Option<Task> {
        while let Some(opened) = self.opened {
            let is_full = self.waiting.len() + self.taken >= MAX_GROUP;
            let left = LINGER.saturating_sub(opened.elapsed());
            if is_full || left.is_zero() {
                self.commit();
                break;
            }
            match self.queue.try_recv() {
                Ok(task) => return Some(task),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.taken == 0 || !self.waiting.is_empty() => {
                    self.commit();
                    break;
                }
                Err(TryRecvError::Empty) => match self.queue.recv_timeout(left) {
                    Ok(task) => return Some(task),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                },
            }
        }
        self.queue.recv().ok()
    }

    fn take(&mut self, mut job: Box<dyn Job>) {
        if let Some(codes) = self.broken {
            return job.answer(Err(explain_codes(codes, self.shared.path())));
        }
        if self.opened.is_none()
            && let Err(codes) = self.begin()
        {
            job.answer(Err(explain_codes(codes, self.shared.path())));
            return self.refuse_queued(codes);
        }
        match self.attempt(job.as_mut()) {
            Ok(true) if job.is_sync() => self.waiting.push(job),
            Ok(true) => {
                self.taken += 1;
                self.shared.has_uncommitted.store(true, Ordering::Release);
                job.answer(Ok(()));
            }
            Ok(false) => {
                let is_full = job.is_full();
                job.answer(Ok(())); // `Ok`: its own error stands
                if self.db.is_autocommit() {
                    // SQLite gave up the whole transaction, as it may on a full disk or out of memory.
                    let code = if is_full {
                        ffi::SQLITE_FULL
                    } else {
                        ffi::SQLITE_ABORT
                    };
                    self.give_up(ffi::Error::new(code));
                }
            }
            Err(codes) => {
                job.answer(Err(explain_codes(codes, self.shared.path())));
                self.give_up(codes);
            }
        }
    }

    /// Takes the write lock, waiting for other processes. The pauses are short: a busy neighbour leaves only a
    /// moment between two commits.
    fn begin(&mut self) -> Result<(), ffi::Error> {
        let start = Instant::now();
        loop {
            match self.execute("BEGIN IMMEDIATE") {
                Ok(()) => {
                    self.opened = Some(Instant::now());
                    return Ok(());
                }
                Err(codes) if codes.code == ErrorCode::DatabaseBusy && start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_micros(500));
                }
                Err(codes) => return Err(codes),
            }
        }
    }

    /// Whoever queued up behind a lock that never opened has waited as long as the first.
    fn refuse_queued(&mut self, codes: ffi::Error) {
        while let Ok(task) = self.queue.try_recv() {
            match task {
                Task::Write(mut job) => job.answer(Err(explain_codes(codes, self.shared.path()))),
                Task::Read(read) => read(&self.db),
                Task::Flush(reply) => {
                    let _ = reply.send(Ok(())); // no transaction is open: what was taken is committed
                }
            }
        }
    }

    /// Runs a job by itself inside the group, so that its failure takes nobody down.
    fn attempt(&self, job: &mut dyn Job) -> Result<bool, ffi::Error> {
        self.execute("SAVEPOINT job")?;
        let is_kept = job.run(&self.db, self.shared.path());
        if !is_kept {
            if self.db.is_autocommit() {
                return Ok(false);
            }
            self.execute("ROLLBACK TO job")?;
        }
        self.execute("RELEASE job")?;
        Ok(is_kept)
    }

    fn commit(&mut self) {
        if self.opened.is_none() {
            return;
        }
        match self.execute("COMMIT") {
            Ok(()) => {
                self.opened = None;
                self.taken = 0;
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                self.shared.has_uncommitted.store(false, Ordering::Release);
                for mut job in self.waiting.drain(..) {
                    job.answer(Ok(()));
                }
            }
            Err(codes) => self.give_up(codes),
        }
    }

    /// The transaction is lost, with everything in it.
    fn give_up(&mut self, codes: ffi::Error) {
        if !self.db.is_autocommit() {
            let _ = self.execute("ROLLBACK"); // fails only where there is no transaction left
        }
        self.opened = None;
        if std::mem::take(&mut self.taken) > 0 {
            self.lost = Some(codes);
        }
        if codes.code == ErrorCode::SystemIoFailure {
            self.broken = Some(codes);
        }
        self.shared.has_uncommitted.store(false, Ordering::Release);
        for mut job in self.waiting.drain(..) {
            job.answer(Err(explain_codes(codes, self.shared.path())));
        }
    }

    fn execute(&self, sql: &'static str) -> Result<(), ffi::Error> {
        let run = || self.db.prepare_cached(sql)?.execute([]).map(drop);
        run().map_err(|error| codes(&error))
    }
}
