//! The one source of all decisions of a simulated world.
//!
//! Each decision is a number, and 0 is the plain one: no fault, no delay. Random worlds, replayed
//! ones, shrunk ones and enumerated ones differ only in where the numbers come from.

/// Decisions, and what was decided so far.
#[derive(Debug)]
pub struct Choices {
    random: Option<u64>,
    given: Vec<u32>,
    /// Each decision taken, with how many there were to choose from.
    pub taken: Vec<(u32, u32)>,
}

impl Choices {
    /// Random decisions of a seed.
    pub fn random(seed: u64) -> Self {
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Choices { random: Some(mixed), given: Vec::new(), taken: Vec::new() }
    }

    /// These decisions, then plain ones.
    pub fn given(given: Vec<u32>) -> Self {
        Choices { random: None, given, taken: Vec::new() }
    }

    /// A number below `n`; of random ones about one in `rare` is not plain.
    pub fn choose(&mut self, n: u32, rare: u32) -> u32 {
        let value = match &mut self.random {
            Some(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let bits = u32::try_from(*state >> 32).unwrap_or(0);
                if bits % rare == 0 { (bits / rare) % n } else { 0 }
            }
            None => self.given.get(self.taken.len()).copied().unwrap_or(0).min(n - 1),
        };
        self.taken.push((value, n));
        value
    }

    /// The numbers that were decided, without plain ones at the end.
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.taken.iter().map(|(value, _)| *value).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    }
}

/// Fewer decisions that are not plain, with which a world still fails.
pub fn shrink(numbers: Vec<u32>, fails: &dyn Fn(&[u32]) -> bool) -> Vec<u32> {
    let mut best = numbers;
    loop {
        let before = best.clone();
        let mut size = best.len();
        while size > 0 {
            for start in (0..best.len()).step_by(size) {
                let mut other = best.clone();
                other.iter_mut().skip(start).take(size).for_each(|value| *value = 0);
                if other != best && fails(&other) {
                    best = other;
                }
            }
            size /= 2;
        }
        while best.last() == Some(&0) {
            best.pop();
        }
        if best == before {
            return best;
        }
    }
}
