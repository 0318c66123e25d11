#![no_main]
kquant_fuzz::target!(formats, sentencepiece);
