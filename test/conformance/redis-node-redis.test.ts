import { registerRedis } from './redis-register.ts';

registerRedis('redis, one server, redis');
