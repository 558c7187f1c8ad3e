//! One direction of the host link: how long one copy takes (design §3.4; `gpu-measurement.md` §3.2).
//!
//! One FIFO per direction; what waits for what is the pipeline's business. Knows only bytes and time.

use crate::units::{Bytes, BytesPerSec, SimDuration};

/// One direction of the host link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkModel {
    /// Time before the first byte of each copy, `l0`.
    pub latency: SimDuration,
    /// Rate after it; with `pieces`, the rate of pieces that reach the knee.
    pub rate: BytesPerSec,
    /// What small pieces cost; `None`: a straight line.
    pub pieces: Option<Pieces>,
}

/// What it costs to copy in pieces: `max(n·submit, Σ max(engine, s/BW(s)))`, with `BW(s)` = `small_rate` below
/// the knee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Size of a piece; `None`: each copy is one piece.
    pub piece: Option<Bytes>,
    /// Size from which a piece moves at the full rate.
    pub knee: Bytes,
    /// Rate of smaller pieces.
    pub small_rate: BytesPerSec,
    /// CPU time to submit a piece.
    pub submit: SimDuration,
    /// Least time of the copy engine per piece.
    pub engine: SimDuration,
}

impl LinkModel {
    /// A straight line: `latency + bytes/rate`.
    pub const fn line(latency: SimDuration, rate: BytesPerSec) -> Self {
        LinkModel { latency, rate, pieces: None }
    }

    /// Time of one copy, every division of bytes by a rate rounded up to the picosecond.
    pub fn copy_time(&self, bytes: Bytes) -> SimDuration {
        let Some(pieces) = &self.pieces else { return self.latency + self.rate.transfer_time(bytes) };
        let (whole, piece, rest) = pieces.split(bytes);
        let mut copied = self.piece_time(pieces, piece) * whole;
        let mut count = whole;
        if rest > Bytes::ZERO {
            copied += self.piece_time(pieces, rest);
            count += 1;
        }
        self.latency + copied.max(pieces.submit * count)
    }

    /// [`Self::copy_time`] in seconds, unrounded, for planners.
    pub fn copy_time_s(&self, bytes: Bytes) -> f64 {
        let Some(pieces) = &self.pieces else {
            return self.latency.as_secs_f64() + bytes.get() as f64 / self.rate.get() as f64;
        };
        let (whole, piece, rest) = pieces.split(bytes);
        let mut copied = self.piece_time_s(pieces, piece) * whole as f64;
        let mut count = whole as f64;
        if rest > Bytes::ZERO {
            copied += self.piece_time_s(pieces, rest);
            count += 1.0;
        }
        self.latency.as_secs_f64() + copied.max(pieces.submit.as_secs_f64() * count)
    }

    /// The straight line a planner believes in: seconds per block, and seconds per copy. Exact for straight
    /// lines and for pieces that divide a block; for copies in one piece it is the line above the knee.
    pub fn planner_line(&self, block: Bytes) -> (f64, f64) {
        let latency_s = self.latency.as_secs_f64();
        match self.pieces.and_then(|pieces| pieces.piece) {
            Some(piece) if piece <= block => (self.copy_time_s(block) - latency_s, latency_s),
            Some(_) | None => (block.get() as f64 / self.rate.get() as f64, latency_s),
        }
    }

    fn rate_of(&self, pieces: &Pieces, size: Bytes) -> BytesPerSec {
        if size < pieces.knee { pieces.small_rate } else { self.rate }
    }

    fn piece_time(&self, pieces: &Pieces, size: Bytes) -> SimDuration {
        self.rate_of(pieces, size).transfer_time(size).max(pieces.engine)
    }

    fn piece_time_s(&self, pieces: &Pieces, size: Bytes) -> f64 {
        (size.get() as f64 / self.rate_of(pieces, size).get() as f64).max(pieces.engine.as_secs_f64())
    }
}

impl Pieces {
    /// Whole pieces, the size of each, and what is left.
    fn split(&self, bytes: Bytes) -> (u64, Bytes, Bytes) {
        let piece = self.piece.unwrap_or(bytes);
        if piece == Bytes::ZERO {
            return (0, Bytes::ZERO, Bytes::ZERO);
        }
        (bytes.get() / piece.get(), piece, Bytes::new(bytes.get() % piece.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes_per_s: u64) -> BytesPerSec {
        BytesPerSec::try_from(bytes_per_s).unwrap()
    }

    fn micros(micros: u64) -> SimDuration {
        SimDuration::from_picos(micros * 1_000_000)
    }

    /// 1 GB/s below 28 KB, 50 GB/s from there; 2 µs per copy.
    fn two_regimes(piece: Option<u64>, submit: SimDuration, engine: SimDuration) -> LinkModel {
        let pieces = Pieces {
            piece: piece.map(Bytes::new),
            knee: Bytes::new(28_000),
            small_rate: rate(1_000_000_000),
            submit,
            engine,
        };
        LinkModel { latency: micros(2), rate: rate(50_000_000_000), pieces: Some(pieces) }
    }

    #[test]
    fn a_piece_below_the_knee_moves_at_the_small_rate() {
        let link = two_regimes(None, SimDuration::ZERO, SimDuration::ZERO);
        // 20,000 B / 1 GB/s = 20 µs; 28,000 B / 50 GB/s = 0.56 µs
        assert_eq!(link.copy_time(Bytes::new(20_000)), micros(22));
        assert_eq!(link.copy_time(Bytes::new(28_000)).as_picos(), 2_560_000);
        assert_eq!(link.copy_time(Bytes::ZERO), micros(2));
    }

    #[test]
    fn pieces_cost_the_larger_of_submitting_and_copying_them() {
        // 100,000 B = 10 pieces of 10,000 B at 10 µs each: 100 µs against 10·3 µs of submitting.
        let copying = two_regimes(Some(10_000), micros(3), SimDuration::ZERO);
        assert_eq!(copying.copy_time(Bytes::new(100_000)), micros(102));
        // 5,000 B more is one more piece of 5 µs.
        assert_eq!(copying.copy_time(Bytes::new(105_000)), micros(107));
        // Pieces of 50,000 B take 1 µs each, submitting one 3 µs: 2·3 µs.
        let submitting = two_regimes(Some(50_000), micros(3), SimDuration::ZERO);
        assert_eq!(submitting.copy_time(Bytes::new(100_000)), micros(8));
        // The engine needs 20 µs per piece at least: 10·20 µs.
        let engine = two_regimes(Some(10_000), micros(3), micros(20));
        assert_eq!(engine.copy_time(Bytes::new(100_000)), micros(202));
        for link in [copying, submitting, engine] {
            let exact = link.copy_time(Bytes::new(105_000)).as_secs_f64();
            assert!((link.copy_time_s(Bytes::new(105_000)) / exact - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_planners_line_is_exact_for_blocks_made_of_pieces() {
        let link = two_regimes(Some(16_384), micros(1), micros(2));
        let block = Bytes::new(65_536);
        let (per_block_s, per_copy_s) = link.planner_line(block);
        for blocks in [1, 7, 561] {
            let exact = link.copy_time(block * blocks).as_secs_f64();
            assert!(((per_copy_s + blocks as f64 * per_block_s) / exact - 1.0).abs() < 1e-9, "{blocks}");
        }
        let line = LinkModel::line(micros(2), rate(65_536_000_000));
        assert_eq!(line.planner_line(block), (1e-6, 2e-6));
    }
}
