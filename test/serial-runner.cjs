'use strict';

const { default: TestRunner } = require('jest-runner');

/** Runs test files one after the other, whatever --maxWorkers says: jest has no such setting for one project. */
module.exports = class SerialRunner extends TestRunner {
  isSerial = true;
};
