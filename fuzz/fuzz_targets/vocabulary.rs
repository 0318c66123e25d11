#![no_main]
kquant_fuzz::target!(program, vocabulary);
