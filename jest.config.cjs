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
  // Two files at a time even on two cores: most of a unit test's time is loading the CDK, most of an integration test's is waiting. Each of those
  // has a lab of its own name, with its own namespaces, addresses and ports.
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
      globalSetup: '<rootDir>/test/lab/assembly.ts',
      testMatch: ['<rootDir>/test/lab/**/*.test.ts', '<rootDir>/test/node/**/*.integration.test.ts'],
    },
  ],
};
