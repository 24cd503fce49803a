//! The worker program of the tests of the executor `process`; `worker apply FOLDER` makes it a parent.

#![allow(unreachable_pub, reason = "modules of one program")]

mod components;

use superduper::prelude::*;

#[superduper::main]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "apply") {
        let folder = args.next().ok_or_else(|| Error::msg("apply needs a folder"))?;
        let db = Db::builder().at(folder)?.executor("process").build().await?;
        db.apply(components::Task { identifier: "p08".into(), what: "wait".into(), made: Output::empty() }).await?;
    }
    Ok(())
}
