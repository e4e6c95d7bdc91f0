"""Files made to do harm, and what has to come of them."""
