/**
 * `leasehold/testing`: what this package is tested with, for those who write a store or test on top of locks.
 */
export * from './conformance/index.ts';
export * from './engines/index.ts';
export * from './simulation/index.ts';
export * from './sources/index.ts';
