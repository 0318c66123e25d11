#![no_main]
kquant_fuzz::target!(program, generation_configuration);
