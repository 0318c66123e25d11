//! A limit on the bytes of buffers in flight.

use std::sync::{Condvar, Mutex, PoisonError};

/// A semaphore counted in bytes.
pub(super) struct Budget {
    free: Mutex<u64>,
    released: Condvar,
}

/// Bytes taken from a budget, which are given back when this is dropped, on any thread.
pub(super) struct Lease<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self { free: Mutex::new(bytes), released: Condvar::new() }
    }

    /// Waits until `bytes` are free and takes them. No caller asks for more than the whole budget.
    pub(super) fn acquire(&self, bytes: u64) -> Lease<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.released.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Lease { budget: self, bytes }
    }
}

impl Lease<'_> {
    /// Gives back all bytes except `bytes`.
    pub(super) fn keep(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += back;
        self.budget.released.notify_all();
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.keep(0);
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
                        let mut lease = budget.acquire(bytes);
                        let now = in_flight.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        highest.fetch_max(now, Ordering::SeqCst);
                        in_flight.fetch_sub(bytes - bytes / 2, Ordering::SeqCst);
                        lease.keep(bytes / 2);
                        in_flight.fetch_sub(bytes / 2, Ordering::SeqCst);
                        drop(lease);
                    }
                });
            }
        });
        assert!((60..=100).contains(&highest.into_inner()));
        assert_eq!(*budget.free.lock().unwrap(), 100);
    }
}
