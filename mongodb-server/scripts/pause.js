// For a backup: nothing moves between shards, and nothing is written. users.js has logged in.
sh.stopBalancer();
db.getSiblingDB("admin").fsyncLock();
