"""What is known of networks without building one: grids, sizes and shapes. Knows no torch."""
