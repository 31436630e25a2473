'use strict';

// Nodes that start, gigabytes that move, bundles that are built: a bound for what hangs, not a measure of what is slow.
jest.setTimeout(600_000);
