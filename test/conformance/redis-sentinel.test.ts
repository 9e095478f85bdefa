import { registerRedis } from './redis-register.ts';

registerRedis('redis, a master behind Sentinel');
