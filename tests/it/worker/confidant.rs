//! A component that lets its secret slip wherever it can; shared by a test and the worker program.

use std::io::Write;
use superduper::prelude::*;

#[derive(Component)]
#[component(kind = "test.Confidant")]
pub(crate) struct Confidant {
    pub(crate) identifier: String,
    pub(crate) token: Secret<String>,
    pub(crate) what: String,
    pub(crate) made: Output<String>,
}

#[triggers]
impl Confidant {
    #[trigger("apply")]
    fn work(&self, ctx: &JobContext) -> Result<Value> {
        let token = self.token.reveal()?;
        ctx.log(format!("the token is {token}"));
        tracing::info!(token, "an event");
        ctx.emit("confidant", json!({"of": [token]}))?;
        match self.what.as_str() {
            "error" => return Err(Error::msg(format!("{token} is refused")).context("logging in")),
            "panic" => panic!("{token} is odd"),
            "block" => return Err(ctx.block(format!("whoever knows {token}")).into()),
            "print" => print(token)?,
            "print, exit" => {
                print(token)?;
                std::process::exit(3);
            }
            _ => {}
        }
        Ok(json!({"token": format!("Bearer {token}"), "items": [1, {"of": token}]}))
    }
}

/// Print the token on both streams: as it is, in a line that is cut, and over several writes.
fn print(token: &str) -> Result<()> {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    writeln!(out, "out: {token}")?;
    writeln!(err, "err: {token}, {token:?}")?;
    writeln!(err, "{}{token}", "x".repeat(4090))?;
    let (first, second) = token.split_at(token.len() / 2);
    write!(err, "parts: {first}")?;
    err.flush()?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    writeln!(err, "{second}")?;
    Ok(out.flush()?)
}
