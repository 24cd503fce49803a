//! The thread that starts job processes.

use crate::error::{Error, Result};
use crate::unreturned::{Site, Unreturned};
use std::{
    process::{Child, Command},
    sync::{OnceLock, mpsc},
};
use tokio::sync::oneshot;

type Order = (Command, oneshot::Sender<std::io::Result<Child>>);

/// Start a job process from the one thread that lives as long as this process.
///
/// The death signal of a child is tied to the thread that started it, so a short-lived thread must
/// not start it.
pub(super) async fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        let started =
            std::thread::Builder::new().name("superduper-spawn".to_owned()).spawn(move || {
                for (mut command, reply) in orders {
                    reply
                        .send(command.spawn())
                        .ignored("the attempt is gone, and the child ends with its closed socket");
                }
            });
        // Without the thread every order is answered by a closed channel.
        started.or_warn(Site::WORKER, "starting the thread that starts job processes");
        sender
    });
    let (reply, answer) = oneshot::channel();
    let closed = || Error::internal("the thread that starts job processes is gone");
    spawner.send((command, reply)).map_err(|_| closed())?;
    answer.await.map_err(|_| closed())?.map_err(Error::from)
}
