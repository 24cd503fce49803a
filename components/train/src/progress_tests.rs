//! Bars on a terminal that is none.

use super::*;
use superduper::{
    FailureKind, JobFailure,
    store::{JobId, Timestamp},
};

/// Keeps all that was written to it.
#[derive(Debug, Clone, Default)]
struct Screen(Arc<Mutex<String>>);

impl Screen {
    fn text(&self) -> String {
        self.0.lock().expect("text").clone()
    }

    fn add(&self, text: &str) -> std::io::Result<()> {
        self.0.lock().expect("text").push_str(text);
        Ok(())
    }
}

impl indicatif::TermLike for Screen {
    fn width(&self) -> u16 {
        120
    }
    fn move_cursor_up(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }
    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.add(text)
    }
    fn clear_line(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}

fn info(status: Status, progress: Option<(u64, u64)>) -> Info {
    Info {
        id: "run".into(),
        job: JobId(1),
        status,
        paused: false,
        cancelling: false,
        cancel_requested: false,
        submitted_at: Timestamp(0),
        started_at: Some(Timestamp(1_000)),
        completed_at: status.is_terminal().then_some(Timestamp(4_200)),
        attempt: 1,
        progress,
        error: (status == Status::Errored)
            .then(|| JobFailure::new(FailureKind::Error, "no\nroom \u{1b}[2J left")),
        path: None,
        purged: false,
    }
}

#[test]
fn bars_of_several_runs_end_in_order() {
    let screen = Screen::default();
    let progress =
        Progress::bars(ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 250));
    let (mut one, mut two, dropped) =
        (View::new(&progress, "one"), View::new(&progress, "two"), View::new(&progress, "three"));
    let mut pace = Pace::default();
    let begun = Instant::now();
    for step in [0, 500] {
        pace.see(
            &info(Status::Running, Some((step, 1000))),
            begun + Duration::from_secs(step / 100),
        );
        one.show(&info(Status::Running, Some((step, 1000))), &pace, ", loss 0.5", false);
        two.show(&info(Status::Queued, None), &Pace::default(), "", false);
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = screen.text();
    assert!(
        text.contains("one [") && text.contains("500/1000, 100 steps/s, 5.0s left, loss 0.5"),
        "{text}"
    );
    assert!(text.contains("two QUEUED"), "{text}");
    pace.see(&info(Status::Completed, Some((1000, 1000))), begun + Duration::from_secs(10));
    one.show(&info(Status::Completed, Some((1000, 1000))), &pace, ", loss 0.25", true);
    two.show(&info(Status::Errored, None), &Pace::default(), "", true);
    let text = screen.text();
    assert!(text.contains("one COMPLETED after 1000/1000 steps in 3.2s, loss 0.25"), "{text}");
    assert!(text.contains("two ERRORED: no room  [2J left"), "a text moves no cursor: {text}");
    let bars =
        [one.bar.clone(), two.bar.clone(), dropped.bar.clone()].map(|bar| bar.expect("a bar"));
    drop((one, two, dropped));
    assert!(
        bars.iter().all(ProgressBar::is_finished),
        "a bar that is no longer followed is left in order, too"
    );
}
