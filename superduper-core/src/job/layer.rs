//! A `tracing` layer that writes the events inside a job to the job's log.

use super::context::current;
use crate::{store::LogLevel, unreturned::Unreturned};
use std::fmt::Write;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Writes `tracing` events inside a job to that job's log; made by [`job_layer`].
#[derive(Debug)]
pub struct JobLayer(());

/// The layer that programs add to their subscriber, so that `tracing` events inside a job reach
/// `db.logs(job)`.
///
/// Of the library's own events only warnings are written there. The library installs no subscriber:
/// `tracing_subscriber::registry().with(superduper::job::job_layer()).init()`.
pub fn job_layer() -> JobLayer {
    JobLayer(())
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JobLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Events of the engine are for the program. A job's log has the events of the job, and
        // warnings.
        if event.metadata().target().starts_with("superduper::")
            && *event.metadata().level() > Level::WARN
        {
            return;
        }
        let Some(ctx) = current() else { return };
        let level = match *event.metadata().level() {
            Level::TRACE => LogLevel::Trace,
            Level::DEBUG => LogLevel::Debug,
            Level::INFO => LogLevel::Info,
            Level::WARN => LogLevel::Warn,
            Level::ERROR => LogLevel::Error,
        };
        let mut text = Text::default();
        event.record(&mut text);
        ctx.log_at(level, text.message + &text.fields);
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        written.ignored("writing to a string does not fail");
    }
}
