//! Finding triggers that wait for each other.

use super::ast::Trigger;
use crate::shared::Errors;
use proc_macro2::Span;

/// Report each cycle once, at the first step of it that the source shows.
pub(super) fn check(triggers: &[Trigger], errors: &mut Errors) {
    let steps: Vec<Vec<(usize, Span)>> = triggers
        .iter()
        .map(|trigger| {
            let place = |name: &str| triggers.iter().position(|other| other.name == name);
            trigger.waits_for().filter_map(|(name, span)| Some((place(&name)?, span))).collect()
        })
        .collect();
    let mut search = Search {
        steps: &steps,
        state: vec![State::New; triggers.len()],
        path: Vec::new(),
        cycles: Vec::new(),
    };
    for start in 0..triggers.len() {
        search.visit(start);
    }
    for cycle in search.cycles {
        let names: Vec<&str> = cycle
            .iter()
            .chain(&cycle[..1])
            .map(|(index, _)| triggers[*index].name.as_str())
            .collect();
        // A trigger that depends on itself has a message of its own.
        if cycle.len() > 1 {
            errors.at(cycle[0].1, format!("triggers wait for each other: {}", names.join(" -> ")));
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// A depth-first search; `path` holds the open triggers, each with the place of the step that
/// leaves it.
struct Search<'a> {
    steps: &'a [Vec<(usize, Span)>],
    state: Vec<State>,
    path: Vec<(usize, Span)>,
    cycles: Vec<Vec<(usize, Span)>>,
}

impl Search<'_> {
    fn visit(&mut self, index: usize) {
        if self.state[index] != State::New {
            return;
        }
        self.state[index] = State::Open;
        for (next, span) in &self.steps[index] {
            self.path.push((index, *span));
            match self.state[*next] {
                State::New => self.visit(*next),
                State::Open => {
                    let start = self.path.iter().position(|(open, _)| open == next).unwrap_or(0);
                    self.cycles.push(from_the_first(&self.path[start..]));
                }
                State::Done => {}
            }
            self.path.pop();
        }
        self.state[index] = State::Done;
    }
}

/// The same cycle, told from the trigger that is written first.
fn from_the_first(cycle: &[(usize, Span)]) -> Vec<(usize, Span)> {
    let mut cycle = cycle.to_vec();
    let first =
        cycle.iter().enumerate().min_by_key(|(_, (index, _))| *index).map_or(0, |(place, _)| place);
    cycle.rotate_left(first);
    cycle
}
