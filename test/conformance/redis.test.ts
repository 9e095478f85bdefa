import { registerRedis } from './redis-register.ts';

registerRedis('redis, one server, url');
registerRedis('redis, one server, ioredis');
