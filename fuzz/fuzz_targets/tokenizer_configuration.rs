#![no_main]
kquant_fuzz::target!(program, tokenizer_configuration);
