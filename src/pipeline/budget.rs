//! Bytes of buffers in flight, kept under a limit.

use std::sync::{Condvar, Mutex, PoisonError};

/// A semaphore counted in bytes.
pub(super) struct Budget {
    free: Mutex<u64>,
    released: Condvar,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self { free: Mutex::new(bytes), released: Condvar::new() }
    }

    /// Waits until `bytes` are free and takes them. The caller never asks for more than the whole budget.
    pub(super) fn acquire(&self, bytes: u64) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.released.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
    }

    /// Gives `bytes` back.
    pub(super) fn release(&self, bytes: u64) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        self.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn never_more_in_flight_than_the_budget() {
        let budget = Budget::new(100);
        let (in_flight, highest) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8u64 {
                let (budget, in_flight, highest) = (&budget, &in_flight, &highest);
                scope.spawn(move || {
                    for step in 0..200u64 {
                        let bytes = 1 + (worker * 37 + step * 11) % 60;
                        budget.acquire(bytes);
                        let now = in_flight.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        highest.fetch_max(now, Ordering::SeqCst);
                        in_flight.fetch_sub(bytes, Ordering::SeqCst);
                        budget.release(bytes);
                    }
                });
            }
        });
        assert!((60..=100).contains(&highest.into_inner()));
    }
}
