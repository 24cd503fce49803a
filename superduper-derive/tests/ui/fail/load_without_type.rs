#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

async fn run(db: Db) -> Result<()> {
    let model = db.load("a").await?;
    Ok(())
}

fn main() {}
