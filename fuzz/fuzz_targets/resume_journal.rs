#![no_main]
kquant_fuzz::target!(program, resume_journal);
