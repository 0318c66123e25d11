//! `--io`: how tensor data are read.

use kquant::checkpoint::Io;

/// How tensor data are read; the results are the same.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct IoArg {
    /// How tensor data are read: mapped into memory, copied by positional reads, or by default as the file system wants it:
    /// copied from network volumes and the like (NFS, SMB, FUSE, 9p), else mapped.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        hide_default_value = true,
        help_heading = "Machine"
    )]
    io: Name,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    Auto,
    Mmap,
    Pread,
}

impl IoArg {
    /// The choice.
    pub(super) fn io(self) -> Io {
        match self.io {
            Name::Auto => Io::Auto,
            Name::Mmap => Io::Mmap,
            Name::Pread => Io::Pread,
        }
    }
}
