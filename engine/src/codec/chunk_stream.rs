//! The head's open chunks: samples are appended one at a time and readable at any moment.
//!
//! Written bytes are never touched again, so that a reader may hold a prefix of the buffer and a count
//! taken together, while the writer goes on behind it. That is why records are whole bytes:
//!
//! ```text
//! record  = control byte, time bytes, value bytes
//! control = time operation (high 3 bits) | value operation (low 5 bits)
//! ```
//!
//! Time is the change of the difference (delta of delta), in milliseconds where it can be. The value
//! is the same bits, the change of a scaled integer in 1 to 4 bytes (counters, decimals), or the XOR
//! with the previous value (Gorilla: Pelkonen and others, 2015), cut to the bytes that differ. A
//! sample that repeats value and step is only counted: its run is written before the next record, and
//! a run at the end is implied by the count. So a constant series on its grid costs no bytes at all.

use super::CodecError;
use super::reader::ByteReader;
use super::varint;

const CODEC: &str = "chunk";

const NS_PER_MS: i64 = 1_000_000;

/// Time operations: the change of the step, little-endian.
mod time_op {
    pub(super) const SAME: u8 = 0;
    pub(super) const MS_1: u8 = 1;
    pub(super) const MS_2: u8 = 2;
    pub(super) const MS_4: u8 = 3;
    pub(super) const NS_8: u8 = 4;
    /// No sample but a run: the low bits are its length, or [`RUN_LONG`](super::RUN_LONG).
    pub(super) const RUN: u8 = 7;
}

/// Value operations.
mod value_op {
    pub(super) const SAME: u8 = 0;
    /// 1 to 4: the change of the scaled integer in so many bytes.
    pub(super) const DELTA_4: u8 = 4;
    /// 8 to 12: eight bytes of a value that is an integer at this many decimals.
    pub(super) const SCALED: u8 = 8;
    /// 16 to 23: the low 1 to 8 bytes of the XOR.
    pub(super) const XOR_LOW: u8 = 16;
    /// 24 to 31: the high 1 to 8 bytes of the XOR.
    pub(super) const XOR_HIGH: u8 = 24;
}

/// Bytes by which a buffer grows at least: less than 64 by the allocator's word, and enough for the
/// largest record.
const GROW_MIN: usize = 40;
const _: () = assert!(GROW_MIN - size_of::<usize>() >= RECORD_SIZE_MAX);

/// In a run's low bits: the length minus 31 follows as a varint.
const RUN_LONG: u8 = 31;

/// Decimals that are tried.
const DECIMALS_MAX: u8 = 4;
/// No scale fits: values go as XOR.
const UNSCALED: u8 = u8::MAX;
const POWERS_OF_TEN: [f64; DECIMALS_MAX as usize + 1] = [1.0, 10.0, 100.0, 1e3, 1e4];
/// Scaled integers are smaller in absolute value.
const INTEGER_BOUND: f64 = (1_u64 << 51) as f64;

/// The integer that stands for `value` at `decimals`, if it gives back the same bits.
#[inline]
fn to_integer(value: f64, decimals: u8) -> Option<i64> {
    let power = POWERS_OF_TEN[usize::from(decimals)];
    // Counters take the first way, without the division.
    if decimals == 0 {
        let integer = value as i64;
        let exact = (integer as f64).to_bits() == value.to_bits() && value.abs() < INTEGER_BOUND;
        return exact.then_some(integer);
    }
    let scaled = value * power;
    if scaled.abs() >= INTEGER_BOUND {
        return None;
    }
    let integer = scaled.round_ties_even() as i64;
    (from_integer(integer, decimals).to_bits() == value.to_bits()).then_some(integer)
}

#[inline]
fn from_integer(integer: i64, decimals: u8) -> f64 {
    if decimals == 0 {
        integer as f64
    } else {
        integer as f64 / POWERS_OF_TEN[usize::from(decimals)]
    }
}

/// What writer and reader know of the sample before: both advance it in the same way.
#[derive(Debug, Clone, Copy)]
struct State {
    timestamp: i64,
    step: i64,
    bits: u64,
    integer: i64,
    /// Scale of `integer`, or [`UNSCALED`].
    decimals: u8,
    /// Whether `integer` stands for `bits`.
    has_integer: bool,
}

impl State {
    const START: State = State {
        timestamp: 0,
        step: 0,
        bits: 0,
        integer: 0,
        decimals: 0,
        has_integer: true,
    };
}

/// An open chunk. Takes any timestamps and values; keeps 48 bytes beside the buffer.
#[derive(Debug, Clone)]
pub struct Appender {
    bytes: Vec<u8>,
    state: State,
    count: u32,
    run: u32,
}

// One per active series: the budget is 64 bytes beside the buffer.
const _: () = assert!(size_of::<Appender>() - size_of::<Vec<u8>>() <= 48);

impl Default for Appender {
    fn default() -> Self {
        Appender::new()
    }
}

impl Appender {
    /// An empty chunk; allocates nothing.
    pub const fn new() -> Self {
        Appender {
            bytes: Vec::new(),
            state: State::START,
            count: 0,
            run: 0,
        }
    }

    /// An empty chunk that writes into `buffer`, which is cleared: reuses its allocation.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Appender {
            bytes: buffer,
            ..Appender::new()
        }
    }

    /// Appends one sample.
    #[inline]
    pub fn append(&mut self, timestamp: i64, value: f64) {
        let bits = value.to_bits();
        let step = timestamp.wrapping_sub(self.state.timestamp);
        let step_change = step.wrapping_sub(self.state.step);
        self.count += 1;
        if step_change == 0 && bits == self.state.bits {
            self.state.timestamp = timestamp;
            self.run += 1;
            return;
        }
        if self.run > 0 {
            self.put_run();
        }
        self.state.timestamp = timestamp;
        self.state.step = step;
        let mut record = Record::new();
        let time = record.put_step_change(step_change);
        let value = if bits == self.state.bits {
            value_op::SAME
        } else {
            record.put_value(value, self.count, &mut self.state)
        };
        record.bytes[0] = time << 5 | value;
        if self.bytes.capacity() - self.bytes.len() < record.len {
            self.grow();
        }
        self.bytes.extend_from_slice(&record.bytes[..record.len]);
    }

    /// Makes room for a few records. Doubling would leave a quarter of the memory of a million open
    /// chunks unused, so the buffer grows by 64 bytes (an eighth when large); with the word that an
    /// allocator keeps per block, blocks stay multiples of 64.
    #[cold]
    fn grow(&mut self) {
        let step = (self.bytes.capacity() / 8).max(GROW_MIN);
        let wanted = (self.bytes.len() + step).next_multiple_of(64) - size_of::<usize>();
        self.bytes.reserve_exact(wanted - self.bytes.len());
    }

    #[cold]
    fn put_run(&mut self) {
        if self.run < u32::from(RUN_LONG) {
            self.bytes.push(time_op::RUN << 5 | self.run as u8);
        } else {
            self.bytes.push(time_op::RUN << 5 | RUN_LONG);
            varint::write_u64(&mut self.bytes, u64::from(self.run - u32::from(RUN_LONG)));
        }
        self.run = 0;
    }

    /// The bytes so far. Together with [`Self::count`], taken at the same moment, a readable chunk.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Samples so far.
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The sample that was appended last, if any.
    #[inline]
    pub fn last(&self) -> Option<(i64, f64)> {
        (self.count > 0).then(|| (self.state.timestamp, f64::from_bits(self.state.bits)))
    }

    /// Bytes of memory behind this chunk, the struct itself not included.
    #[inline]
    pub fn heap_size(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reads what is there now.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.bytes, self.count())
    }

    /// Hands out the bytes; the count is needed to read them.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes of a record under construction: control, 8 bytes of time and 8 of value, and what
/// [`Record::put`] writes beyond them.
const RECORD_SIZE_MAX: usize = 24;

/// One record under construction.
struct Record {
    bytes: [u8; RECORD_SIZE_MAX],
    len: usize,
}

impl Record {
    #[inline]
    fn new() -> Record {
        Record {
            bytes: [0; RECORD_SIZE_MAX],
            len: 1,
        }
    }

    /// Writes all eight bytes and keeps the first `size`: cheaper than a copy of variable length.
    #[inline]
    fn put(&mut self, value: u64, size: usize) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&value.to_le_bytes());
        self.len += size;
    }

    #[inline]
    fn put_step_change(&mut self, change: i64) -> u8 {
        if change == 0 {
            return time_op::SAME;
        }
        if change % NS_PER_MS == 0 {
            let change_ms = change / NS_PER_MS;
            let (op, size) = match signed_size(change_ms) {
                1 => (time_op::MS_1, 1),
                2 => (time_op::MS_2, 2),
                3 | 4 => (time_op::MS_4, 4),
                _ => (time_op::NS_8, 8),
            };
            self.put(if size == 8 { change } else { change_ms } as u64, size);
            return op;
        }
        self.put(change as u64, 8);
        time_op::NS_8
    }

    #[inline]
    fn put_value(&mut self, value: f64, count: u32, state: &mut State) -> u8 {
        let bits = value.to_bits();
        let changed = bits ^ state.bits;
        state.bits = bits;
        if state.decimals != UNSCALED
            && let Some(integer) = to_integer(value, state.decimals)
            && state.has_integer
        {
            let change = integer - state.integer;
            let size = signed_size(change);
            if size <= usize::from(value_op::DELTA_4) {
                state.integer = integer;
                self.put(change as u64, size);
                return size as u8;
            }
        }
        // Noise has no scale; looking for one in every sample would cost more than all the rest.
        let is_noise = state.decimals == UNSCALED && !count.is_multiple_of(16);
        if !is_noise && value.is_finite() {
            let found = (0..=DECIMALS_MAX).find_map(|decimals| {
                to_integer(value, decimals).map(|integer| (decimals, integer))
            });
            if let Some((decimals, integer)) = found {
                (state.decimals, state.integer, state.has_integer) = (decimals, integer, true);
                self.put(bits, 8);
                return value_op::SCALED + decimals;
            }
            state.decimals = UNSCALED;
        }
        state.has_integer = false;
        let (low, high) = (
            (71 - changed.leading_zeros()) / 8,
            (71 - changed.trailing_zeros()) / 8,
        );
        if low <= high {
            self.put(changed, low as usize);
            value_op::XOR_LOW + low as u8 - 1
        } else {
            self.put(changed >> (64 - 8 * high), high as usize);
            value_op::XOR_HIGH + high as u8 - 1
        }
    }
}

/// Bytes that a signed value needs, 1 to 8.
#[inline]
fn signed_size(value: i64) -> usize {
    let magnitude = (value ^ (value >> 63)) as u64;
    // One more bit for the sign.
    (65 - magnitude.leading_zeros() as usize).div_ceil(8)
}

/// Reads a chunk from the bytes and the count that [`Appender`] gave at some moment.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: ByteReader<'a>,
    state: State,
    run: u64,
    left: usize,
}

impl<'a> Reader<'a> {
    /// Reads `count` samples from `bytes`.
    pub fn new(bytes: &'a [u8], count: usize) -> Self {
        let bytes = ByteReader::new(CODEC, bytes, 0);
        Reader {
            bytes,
            state: State::START,
            run: 0,
            left: count,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<(i64, f64), CodecError> {
        if self.run > 0 {
            self.run -= 1;
            self.state.timestamp = self.state.timestamp.wrapping_add(self.state.step);
        } else if self.bytes.remaining() == 0 {
            // What the bytes do not say repeats.
            self.state.timestamp = self.state.timestamp.wrapping_add(self.state.step);
        } else {
            let control = self.bytes.u8()?;
            if control >> 5 == time_op::RUN {
                self.run = match control & 0x1f {
                    0 => return Err(self.bytes.corrupt("empty run")),
                    RUN_LONG => {
                        self.bytes.varint_max(u32::MAX as usize, "run too long")? as u64
                            + u64::from(RUN_LONG)
                    }
                    run => u64::from(run),
                };
                if self.run > self.left as u64 {
                    return Err(self.bytes.corrupt("run longer than the chunk"));
                }
                return self.read_from_run();
            }
            self.read_time(control >> 5)?;
            self.read_value(control & 0x1f)?;
        }
        Ok((self.state.timestamp, f64::from_bits(self.state.bits)))
    }

    #[inline]
    fn read_from_run(&mut self) -> Result<(i64, f64), CodecError> {
        self.run -= 1;
        self.state.timestamp = self.state.timestamp.wrapping_add(self.state.step);
        Ok((self.state.timestamp, f64::from_bits(self.state.bits)))
    }

    /// The next `size` bytes (0 to 8) as a little-endian integer.
    #[inline]
    fn bytes_le(&mut self, size: usize) -> Result<u64, CodecError> {
        let taken = self.bytes.take(size)?;
        let mut all = [0; 8];
        all[..size].copy_from_slice(taken);
        Ok(u64::from_le_bytes(all))
    }

    #[inline]
    fn signed_le(&mut self, size: usize) -> Result<i64, CodecError> {
        let unused = 64 - 8 * size as u32;
        Ok((self.bytes_le(size)? << unused) as i64 >> unused)
    }

    #[inline]
    fn read_time(&mut self, op: u8) -> Result<(), CodecError> {
        let change = match op {
            time_op::SAME => 0,
            time_op::MS_1 => self.signed_le(1)? * NS_PER_MS,
            time_op::MS_2 => self.signed_le(2)? * NS_PER_MS,
            time_op::MS_4 => self.signed_le(4)? * NS_PER_MS,
            time_op::NS_8 => self.signed_le(8)?,
            _ => return Err(self.bytes.corrupt("unknown time operation")),
        };
        self.state.step = self.state.step.wrapping_add(change);
        self.state.timestamp = self.state.timestamp.wrapping_add(self.state.step);
        Ok(())
    }

    #[inline]
    fn read_value(&mut self, op: u8) -> Result<(), CodecError> {
        let state = &mut self.state;
        match op {
            value_op::SAME => {}
            1..=value_op::DELTA_4 => {
                if !state.has_integer || state.decimals == UNSCALED {
                    return Err(self.bytes.corrupt("integer change after no integer"));
                }
                let change = self.signed_le(usize::from(op))?;
                let state = &mut self.state;
                state.integer = state.integer.wrapping_add(change);
                state.bits = from_integer(state.integer, state.decimals).to_bits();
            }
            value_op::SCALED..=12 => {
                let bits = self.bytes_le(8)?;
                let decimals = op - value_op::SCALED;
                let Some(integer) = to_integer(f64::from_bits(bits), decimals) else {
                    return Err(self.bytes.corrupt("value off its scale"));
                };
                self.state = State {
                    bits,
                    integer,
                    decimals,
                    has_integer: true,
                    ..self.state
                };
            }
            value_op::XOR_LOW..=23 => {
                let changed = self.bytes_le(usize::from(op - value_op::XOR_LOW) + 1)?;
                self.state.bits ^= changed;
                self.state.has_integer = false;
            }
            value_op::XOR_HIGH..=31 => {
                let size = usize::from(op - value_op::XOR_HIGH) + 1;
                self.state.bits ^= self.bytes_le(size)? << (64 - 8 * size);
                self.state.has_integer = false;
            }
            _ => return Err(self.bytes.corrupt("unknown value operation")),
        }
        Ok(())
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<(i64, f64), CodecError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let sample = self.read();
        self.left = if sample.is_ok() { self.left - 1 } else { 0 };
        Some(sample)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// Appends the `count` samples of a chunk to `timestamps` and `values`.
///
/// # Errors
/// [`CodecError`] if the bytes are damaged; both vectors are then as they were.
pub fn decode(
    bytes: &[u8],
    count: usize,
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), CodecError> {
    let (times_start, values_start) = (timestamps.len(), values.len());
    timestamps.reserve(count);
    values.reserve(count);
    for sample in Reader::new(bytes, count) {
        match sample {
            Ok((timestamp, value)) => {
                timestamps.push(timestamp);
                values.push(value);
            }
            Err(error) => {
                timestamps.truncate(times_start);
                values.truncate(values_start);
                return Err(error);
            }
        }
    }
    Ok(())
}
