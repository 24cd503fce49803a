use superduper::prelude::*;

#[callable]
fn method(&self) -> Result<i64> {
    Ok(1)
}

fn main() {}
