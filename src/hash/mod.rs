//! Proof that a file is what it should be: hashes of its tensors, data and metadata.

mod digest;
mod manifest;
mod running;

pub use digest::{Digest, TensorDigest, bytes_sha256, digest, digest_with, file_sha256, file_sha256_with};
pub use manifest::{Difference, Expected, Manifest, ManifestError, SourceFile, compare};
pub(crate) use running::FileHash;

/// Formatting of bytes as lower-case hexadecimal digits.
pub(crate) trait Hex {
    /// Returns two lower-case hexadecimal digits per byte.
    fn hex(&self) -> String;
}

impl<T: AsRef<[u8]>> Hex for T {
    fn hex(&self) -> String {
        self.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}
