//! Runs of label pairs, one per series, in one vector: a million small allocations fewer.

use hashbrown::HashMap;

use super::postings::PairId;

/// Where a run lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairRun {
    at: u32,
    count: u32,
}

/// All runs. What was given back is used again for runs of the same length.
#[derive(Debug, Default)]
pub(crate) struct PairArena {
    pairs: Vec<PairId>,
    free: HashMap<u32, Vec<u32>>,
}

impl PairArena {
    /// Keeps a run.
    pub(crate) fn store(&mut self, pairs: &[PairId]) -> PairRun {
        let count = pairs.len() as u32;
        if let Some(at) = self.free.get_mut(&count).and_then(Vec::pop) {
            let place = at as usize..at as usize + pairs.len();
            self.pairs[place].copy_from_slice(pairs);
            return PairRun { at, count };
        }
        let at = u32::try_from(self.pairs.len()).expect("bug: more than 2^32 labels in the head");
        self.pairs.extend_from_slice(pairs);
        PairRun { at, count }
    }

    /// The pairs of a run.
    pub(crate) fn get(&self, run: PairRun) -> &[PairId] {
        &self.pairs[run.at as usize..(run.at + run.count) as usize]
    }

    /// Gives the place of a run to others.
    pub(crate) fn free(&mut self, run: PairRun) {
        if run.count > 0 {
            self.free.entry(run.count).or_default().push(run.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut arena = PairArena::default();
        let first = arena.store(&[1, 2, 3]);
        let second = arena.store(&[4]);
        arena.free(first);
        let third = arena.store(&[7, 8, 9]);
        assert_eq!(
            (arena.get(third), arena.get(second)),
            (&[7, 8, 9][..], &[4][..])
        );
        assert_eq!(arena.pairs.len(), 4);
        let empty = arena.store(&[]);
        assert!(arena.get(empty).is_empty());
    }
}
