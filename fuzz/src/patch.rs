//! Patches: inputs that change bytes of a good file in place.
//!
//! Inserting or removing bytes shifts everything behind, which formats with a fixed frame refuse at
//! once; patches keep the frame and reach what is inside. An input is a byte that picks the file,
//! then patches of [`PATCH_SIZE`] bytes: offset (u32), width (1, 2, 4 or 8 by the low bits of a
//! byte), value (8 bytes).

use crate::mutate::Random;

/// Bytes of one patch.
pub const PATCH_SIZE: usize = 13;

/// Applies the patches of an input to the file that it picks.
pub fn apply(files: &[Vec<u8>], input: &[u8]) -> Vec<u8> {
    let Some((which, patches)) = input.split_first() else {
        return Vec::new();
    };
    let Some(mut file) = files.get(usize::from(*which) % files.len().max(1)).cloned() else {
        return Vec::new();
    };
    if file.is_empty() {
        return file;
    }
    for patch in patches.chunks_exact(PATCH_SIZE) {
        let offset = u32::from_le_bytes([patch[0], patch[1], patch[2], patch[3]]) as usize;
        let offset = offset % file.len();
        let width = 1 << (patch[4] & 3);
        for (byte, value) in file[offset..].iter_mut().zip(&patch[5..5 + width]) {
            *byte = *value;
        }
    }
    file
}

/// A hundred inputs of one to three patches each.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    let mut seeds = Vec::new();
    for _ in 0..100 {
        let mut input = vec![random.next_u64() as u8];
        for _ in 0..=random.below(2) {
            input.extend((random.next_u64() as u32).to_le_bytes());
            input.push(random.next_u64() as u8);
            // Small numbers reach deeper than large ones, which fail the first bound.
            let value = random.next_u64() >> (8 * random.below(8));
            input.extend(value.to_le_bytes());
        }
        seeds.push(input);
    }
    seeds
}
