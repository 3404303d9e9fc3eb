// The aedes broker on 127.0.0.1:PORT (the only argument), in memory; copied by tests/rigs/brokers.py beside node_modules.
const aedes = require("aedes")({ concurrency: 1000 });
require("net").createServer(aedes.handle).listen(Number(process.argv[2]), "127.0.0.1");
