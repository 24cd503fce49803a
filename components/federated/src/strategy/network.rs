//! Sorting networks: the values of all sites for one element, sorted for many elements at once.
//!
//! A network compares places in an order that does not depend on the values, so that a loop over
//! elements has no branches and vectorizes.
//!
//! Source: K. Batcher, "Sorting Networks and Their Applications", 1968, in the form for any number
//! of places of D. Knuth, "The Art of Computer Programming", volume 3, algorithm 5.2.2M.

use crate::numeric::{Format, vectorized};
use std::ops::Range;
use superduper::Bytes;

/// Elements that are sorted at once: the rows of tens of sites fit the first level of the cache.
pub(super) const WIDTH: usize = 128;

/// What sorts so many places.
pub(super) struct Network {
    places: usize,
    exchanges: Vec<(usize, usize)>,
}

impl Network {
    /// The network that puts the right values to the places `wanted`; the others stay in disorder.
    pub(super) fn new(places: usize, wanted: Range<usize>) -> Self {
        let mut exchanges = sort(places);
        let mut needed: Vec<bool> = (0..places).map(|place| wanted.contains(&place)).collect();
        // Backwards: an exchange matters if one of its places matters later.
        let mut matters: Vec<bool> = Vec::with_capacity(exchanges.len());
        for &(low, high) in exchanges.iter().rev() {
            let one = needed[low] || needed[high];
            matters.push(one);
            (needed[low], needed[high]) = (needed[low] || one, needed[high] || one);
        }
        let mut matters = matters.into_iter().rev();
        exchanges.retain(|_| matters.next().unwrap_or(true));
        Network { places, exchanges }
    }

    /// Sort the values of the sites element by element.
    ///
    /// `visit` gets the rows of keys, the smallest first, and how many elements of each row are in
    /// use. It is called where loops are vectorized.
    pub(super) fn each_block<F: Format>(
        &self,
        sites: &[Bytes],
        count: usize,
        mut visit: impl FnMut(&[[F::Key; WIDTH]], usize),
    ) {
        let mut rows = vec![[F::Key::default(); WIDTH]; self.places];
        vectorized(
            #[inline(always)]
            || {
                for start in (0..count).step_by(WIDTH) {
                    let used = WIDTH.min(count - start);
                    for (row, site) in rows.iter_mut().zip(sites) {
                        let raw = &F::raw(site)[start..start + used];
                        row.iter_mut().zip(raw).for_each(|(key, raw)| *key = F::key(*raw));
                    }
                    for &(low, high) in &self.exchanges {
                        if let Ok([low, high]) = rows.get_disjoint_mut([low, high]) {
                            exchange(low, high);
                        }
                    }
                    visit(&rows, used);
                }
            },
        );
    }
}

/// Put the smaller one of each two keys into the first row. Keys are integers: their minimum and
/// their maximum are one instruction each.
#[inline(always)]
fn exchange<K: Copy + Ord>(low: &mut [K; WIDTH], high: &mut [K; WIDTH]) {
    for (low, high) in low.iter_mut().zip(high) {
        (*low, *high) = ((*low).min(*high), (*low).max(*high));
    }
}

/// The exchanges that sort so many places.
fn sort(places: usize) -> Vec<(usize, usize)> {
    let mut exchanges = Vec::new();
    let top = places.next_power_of_two() / 2;
    let mut length = top;
    while length > 0 {
        let (mut stride, mut offset, mut distance) = (top, 0, length);
        loop {
            let starts = (0..places.saturating_sub(distance)).filter(|i| i & length == offset);
            exchanges.extend(starts.map(|start| (start, start + distance)));
            if stride == length {
                break;
            }
            (distance, offset, stride) = (stride - length, length, stride / 2);
        }
        length /= 2;
    }
    exchanges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_sort_all_inputs_of_zeros_and_ones() {
        // The 0-1 principle (Knuth, theorem 5.3.4Z): what sorts those sorts all.
        for places in 0..=13_usize {
            for cut in 0..places.div_ceil(2) {
                let wanted = cut..places - cut;
                let network = Network::new(places, wanted.clone());
                for input in 0..1_u32 << places {
                    let mut bits: Vec<u32> = (0..places).map(|place| input >> place & 1).collect();
                    for &(low, high) in &network.exchanges {
                        (bits[low], bits[high]) =
                            (bits[low].min(bits[high]), bits[low].max(bits[high]));
                    }
                    let zeros = places - input.count_ones() as usize;
                    let right = |place: usize| bits[place] == u32::from(place >= zeros);
                    assert!(wanted.clone().all(right), "{places} {cut} {input:#b}");
                }
            }
        }
    }

    #[test]
    fn what_no_wanted_place_needs_is_left_out() {
        assert!(Network::new(10, 4..6).exchanges.len() < sort(10).len());
    }
}
