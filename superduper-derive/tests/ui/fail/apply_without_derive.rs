#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

struct Model {
    identifier: String,
}

async fn run(db: Db) -> Result<()> {
    db.apply(Model { identifier: "a".into() }).await?;
    Ok(())
}

fn main() {}
