//! What happens in a database, and messages to the outside.

use super::{Db, DbInner};
use crate::unreturned::{Site, Unreturned};
use crate::{
    error::{BoxError, Error, Result},
    future::BoxFuture,
    json::check_readable,
    store::{Batch, Cursor, Durability, EventRow, JobFilter, JobId, Op, RunId},
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle};

/// What happens in a database.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A change of state that is on record.
    Recorded(EventRow),
    /// A job of this process reported progress.
    Progress {
        /// The job.
        job: JobId,
        /// Its run.
        run: Option<RunId>,
        /// Steps done.
        done: u64,
        /// Steps in total.
        total: u64,
    },
}

/// A message that a job sent with `ctx.emit`.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The same for every delivery of one message: a receiver that must not act twice remembers it.
    pub id: i64,
    /// The job that sent it.
    pub job: JobId,
    /// The topic.
    pub topic: String,
    /// The content.
    pub payload: Value,
}

type Handler = Arc<dyn Fn(Message) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Who receives messages, by topic.
#[derive(Default)]
pub(crate) struct Handlers {
    by_topic: Mutex<HashMap<String, Handler>>,
    awake: Arc<Notify>,
    /// The task that delivers; it may end with its runtime.
    task: Mutex<Option<JoinHandle<()>>>,
    /// Messages of which their job's log says already that they cannot be read. Held by who
    /// delivers.
    unreadable: tokio::sync::Mutex<HashSet<i64>>,
}

impl Handlers {
    pub(crate) fn any(&self) -> bool {
        !self.by_topic.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// There may be something to deliver.
    pub(crate) fn wake(&self, db: &Arc<DbInner>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let runtime =
                tokio::runtime::Handle::try_current().unwrap_or_else(|_| db.runtime.clone());
            *task = Some(runtime.spawn(deliver(Arc::downgrade(db), self.awake.clone())));
        }
        self.awake.notify_one();
    }
}

impl Db {
    /// Receive the messages of a topic that jobs send with `ctx.emit`.
    ///
    /// # Guarantees
    /// A message is delivered at least once after its job's result is durable, in order, also after
    /// a crash; one whose handler fails or panics is delivered again, after those behind it. One
    /// that cannot be read any more is not delivered; the log of its job says so. A database that
    /// was opened for reading only delivers nothing.
    pub fn on_message<F, R, E>(&self, topic: impl Into<String>, handler: F)
    where
        F: Fn(Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let db = self.inner();
        let handler: Handler = Arc::new(move |message| {
            let answer = handler(message);
            Box::pin(async move { answer.await.map_err(|error| Error::from(error.into())) })
        });
        db.handlers
            .by_topic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(topic.into(), handler);
        // A message is marked when it is delivered; where nothing can be written, it would come
        // again and again.
        if !db.options.read_only {
            db.handlers.wake(db);
        }
    }

    /// Deliver now what waits for a handler of this database: the last thing that a program does
    /// which is about to end, since deliveries go on in the background after an apply has returned.
    /// Gives how many messages were delivered.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// db.on_message("trained", |message| async move { Ok::<_, superduper::Error>(println!("{}", message.payload)) });
    /// // … apply what sends it, and before `main` returns:
    /// db.deliver().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the first handler which failed, after all others were tried: its message stays, and
    /// is delivered again. `Store`; `Unsupported` where the database was opened for reading only.
    pub async fn deliver(&self) -> Result<usize> {
        self.inner().check_writable("deliver messages")?;
        self.inner().deliver_messages().await
    }
}

impl DbInner {
    /// As [`Db::deliver`], but also allowed while the database is being closed.
    pub(crate) async fn deliver_messages(self: &Arc<Self>) -> Result<usize> {
        let (delivered, failed) = deliver_all(self).await;
        let mut failed = failed.into_iter();
        let first = failed.next();
        for (job, error) in failed {
            site_of(self, job).await.warn(&error, "delivering a message");
        }
        first.map_or(Ok(delivered), |(_, error)| Err(error))
    }
}

async fn deliver(db: Weak<DbInner>, awake: Arc<Notify>) {
    loop {
        // Messages of other processes, and those whose handler failed, are looked for now and then.
        tokio::time::timeout(Duration::from_secs(1), awake.notified())
            .await
            .ignored("whichever comes first");
        let Some(db) = db.upgrade() else { return };
        // Those whose handler failed, and all where the store did, come again.
        let (_, failed) = deliver_all(&db).await;
        for (job, error) in failed {
            site_of(&db, job).await.warn(&error, "delivering messages");
        }
    }
}

/// Where a failed delivery is recorded: with the run of the job that sent the message, if it can be
/// read.
async fn site_of(db: &DbInner, job: Option<JobId>) -> Site {
    let Some(job) = job else { return Site::RUN };
    let rows = db
        .metadata
        .jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() })
        .await
        .unwrap_or_default();
    Site::RUN.run(rows.first().map(|row| row.run)).job(job)
}

/// Deliver the messages that were not delivered yet and have a handler here. Returns how many were
/// delivered, and the errors: of a handler, with the job that sent the message, or of the store,
/// without a job.
async fn deliver_all(db: &Arc<DbInner>) -> (usize, Vec<(Option<JobId>, Error)>) {
    let (mut delivered, mut failed) = (0, Vec::new());
    if let Err(error) = deliver_some(db, &mut delivered, &mut failed).await {
        failed.push((None, error));
    }
    (delivered, failed)
}

async fn deliver_some(
    db: &Arc<DbInner>,
    delivered: &mut usize,
    failed: &mut Vec<(Option<JobId>, Error)>,
) -> Result<()> {
    // One at a time, or a message would be delivered twice at the same time.
    let mut unreadable = db.handlers.unreadable.lock().await;
    let mut after = Cursor::default();
    loop {
        // All of them: those of topics that nobody here receives stay, and must not stand before
        // the others.
        let messages = db.metadata.messages(after, 256).await?;
        if messages.is_empty() {
            return Ok(());
        }
        after = messages.next.clone();
        for row in messages {
            let handler = db
                .handlers
                .by_topic
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&row.topic)
                .cloned();
            let Some(handler) = handler else { continue };
            if let Err(error) = check_readable(
                &row.payload,
                format_args!("message {} of topic `{}`", row.id, row.topic),
            ) {
                // It stays, and stands before no other.
                if unreadable.insert(row.id) {
                    db.log_of_job(row.job, format!("{error}; it is not delivered"));
                }
                continue;
            }
            let (id, job, topic) = (row.id, row.job, row.topic.clone());
            let message = Message { id, job: row.job, topic: row.topic, payload: row.payload };
            // In a task of its own: a panic of the handler is its failure, and not the end of all
            // deliveries.
            let answer = tokio::spawn(async move { handler(message).await }).await;
            let answer = answer.unwrap_or_else(|_| Err(Error::msg("the handler panicked")));
            match answer {
                Ok(()) => {
                    let mark =
                        Batch { expect: Vec::new(), ops: vec![Op::Delivered { message: id }] };
                    // Without the mark it is delivered again, which is what at-least-once means.
                    db.metadata.commit(mark, Durability::Full).await?;
                    *delivered += 1;
                }
                Err(error) => failed.push((
                    Some(job),
                    error.context(format_args!("the handler of message {id} of topic `{topic}`")),
                )),
            }
        }
    }
}
