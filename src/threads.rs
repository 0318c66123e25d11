//! Thread pools of a bounded size.

use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub use rayon::ThreadPoolBuildError as PoolError;

/// Largest number of threads per core; more cost time to start and memory, and compute no faster.
const PER_CORE: usize = 16;

/// Returns a pool of `threads` threads, or of one per core if `threads` is 0, but of no more than 16 per core.
///
/// # Errors
/// Fails when the system cannot start the threads.
pub fn pool(threads: usize) -> Result<ThreadPool, PoolError> {
    ThreadPoolBuilder::new().num_threads(limited(threads)).build()
}

fn limited(threads: usize) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    threads.min(cores.saturating_mul(PER_CORE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_numbers_are_limited_and_others_are_taken_as_they_are() {
        let cores = available_parallelism().unwrap().get();
        for threads in [10_000_000, usize::MAX] {
            assert_eq!(limited(threads), 16 * cores);
        }
        for threads in [0, 1, 16 * cores] {
            assert_eq!(limited(threads), threads);
        }
        assert_eq!(pool(3).unwrap().current_num_threads(), 3);
    }
}
