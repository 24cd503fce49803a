//! How much text is kept on record of what a job or an event says about itself.

use crate::error::JobFailure;
use std::borrow::Cow;

/// The most bytes of text that the failure of an attempt keeps: its message and all its causes
/// together. The end of a longer text is cut off, with a mark that says how many bytes are missing.
///
/// It leaves room for a text of a mebibyte, such as the whole output of a tool; without a limit an
/// error that quotes its input would make a database grow by that input with each attempt.
pub const MAX_FAILURE_TEXT: usize = 2 * 1024 * 1024;

/// The most bytes of a failure's message, or of the reason why a job waits, that a store keeps as
/// the detail of an event. What was cut off is marked; the whole text is with the job.
pub const MAX_EVENT_DETAIL: usize = 4096;

/// An event's detail as a store keeps it: texts that come from users are cut, names and addresses
/// stay whole.
pub fn event_detail<'a>(kind: &str, detail: Cow<'a, str>) -> Cow<'a, str> {
    match kind {
        "job.failed" | "job.cancelled" | "job.skipped" | "job.retrying" | "job.blocked" => {
            cut(detail, MAX_EVENT_DETAIL)
        }
        _ => detail,
    }
}

/// A failure as it is put on record: its texts are cut where they are longer than
/// [`MAX_FAILURE_TEXT`] together.
pub(crate) fn bounded(mut failure: JobFailure) -> JobFailure {
    let mut left = MAX_FAILURE_TEXT;
    for text in std::iter::once(&mut failure.message).chain(&mut failure.causes) {
        if text.len() > left {
            *text = cut(Cow::Borrowed(text), left).into_owned();
        }
        left = left.saturating_sub(text.len());
    }
    failure
}

/// A text of at most so many bytes, with a mark that says how many were cut off.
pub(crate) fn cut(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text;
    }
    let mark = |left: usize| format!(" … [{left} bytes cut off]");
    // The mark has its place within the limit. It is longest where everything is cut off.
    let kept = text.floor_char_boundary(most.saturating_sub(mark(text.len()).len()));
    Cow::Owned(format!("{}{}", &text[..kept], mark(text.len() - kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_22_the_texts_of_a_failure_share_one_limit() {
        let mut failure = JobFailure::new(crate::error::FailureKind::Error, "m".repeat(1 << 20));
        failure.causes = vec!["c".repeat((1 << 20) - 10), "d".repeat(10)];
        assert_eq!(bounded(failure.clone()), failure, "what fits stays whole");
        failure.causes.extend(["e".repeat(30 << 20), "f".repeat(30 << 20)]);
        let kept = bounded(failure.clone());
        let bytes: usize = kept.message.len() + kept.causes.iter().map(String::len).sum::<usize>();
        assert!(bytes < MAX_FAILURE_TEXT + 200, "{bytes} bytes");
        assert_eq!((&kept.message, &kept.causes[..2]), (&failure.message, &failure.causes[..2]));
        assert!(
            kept.causes[2].ends_with("bytes cut off]")
                && kept.causes[3].ends_with("bytes cut off]")
        );
    }

    #[test]
    fn fault_22_a_long_text_is_cut_with_a_mark_within_the_limit() {
        let short = "x".repeat(MAX_EVENT_DETAIL);
        assert_eq!(event_detail("job.failed", short.as_str().into()), short);
        for text in
            ["x".repeat(MAX_EVENT_DETAIL + 1), "ß".repeat(MAX_EVENT_DETAIL), "x".repeat(3 << 20)]
        {
            let kept = event_detail("job.failed", text.as_str().into());
            assert!(kept.len() <= MAX_EVENT_DETAIL, "{} bytes", kept.len());
            let (head, mark) = kept.split_once(" … [").expect("a mark");
            let left: usize =
                mark.strip_suffix(" bytes cut off]").expect("a mark").parse().expect("a number");
            assert!(text.starts_with(head) && head.len() + left == text.len());
        }
        let names = "x".repeat(MAX_EVENT_DETAIL + 1);
        assert_eq!(event_detail("job.succeeded", names.as_str().into()), names);
        assert_eq!(
            cut("abc".into(), 0),
            " … [3 bytes cut off]",
            "a limit without room for the mark"
        );
    }
}
