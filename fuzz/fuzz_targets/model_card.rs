#![no_main]
kquant_fuzz::target!(program, model_card);
