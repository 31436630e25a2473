'use strict';

const shared = {
  testEnvironment: 'node',
  transform: {
    // Isolated: each file is only translated. Types are checked once, by tsc, for the whole project.
    '^.+\\.ts$': [
      'ts-jest',
      { tsconfig: { module: 'nodenext', target: 'es2024', esModuleInterop: true, isolatedModules: true } },
    ],
  },
  clearMocks: true,
  // jest reads testTimeout from no project.
  setupFilesAfterEnv: ['<rootDir>/test/timeout.cjs'],
  // The lab's state lies in the project too; etcd's files are nothing to jest.
  roots: ['<rootDir>/test'],
};

/** @type {import('jest').Config} */
module.exports = {
  // Two files at a time even on two cores: most of a file's time is loading the CDK.
  maxWorkers: 2,
  projects: [
    {
      ...shared,
      displayName: 'unit',
      testMatch: [
        '<rootDir>/test/bin/**/*.test.ts',
        '<rootDir>/test/lib/**/*.test.ts',
        '<rootDir>/test/lambda/**/*.test.ts',
        '<rootDir>/test/stack.test.ts',
        '<rootDir>/test/node/**/*.unit.test.ts',
      ],
    },
    {
      ...shared,
      displayName: 'integration',
      testMatch: ['<rootDir>/test/lab/**/*.test.ts', '<rootDir>/test/node/**/*.integration.test.ts'],
      // There is one lab, with one set of addresses and nodes: its tests take turns.
      runner: '<rootDir>/test/serial-runner.cjs',
    },
  ],
};
