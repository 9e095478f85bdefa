import { registerRedis } from './redis-register.ts';

registerRedis('redis, a cluster of 3 + 3');
