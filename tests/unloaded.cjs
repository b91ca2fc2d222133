"use strict";
// Stands in, in unit tests, for what no test calls and every one would load.
