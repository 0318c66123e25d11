//! Scale searches shared by the block encoders.
