// After a backup, whatever became of it. users.js has logged in.
try {
  db.getSiblingDB("admin").fsyncUnlock();
} catch (error) {
  print(`no lock to take away: ${error.message}`);
}
sh.startBalancer();
