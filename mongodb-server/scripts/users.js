// Makes the administrator (the first user, from its own machine) and the services' user, if they are not there.
const secret = (name) => require("fs").readFileSync(`/run/secrets/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");
const isIn = () => { try { return admin.auth("admin", secret("admin_password")).ok === 1; } catch { return false; } };
if (!isIn()) {
  admin.createUser({ user: "admin", pwd: secret("admin_password"), roles: ["root"] });
  if (!isIn()) throw new Error("the administrator cannot log in: is admin_password another one than at the first start?");
}
if (!admin.getUser("enlight")) {
  const roles = [{ role: "readWrite", db: databaseName }];
  admin.createUser({ user: "enlight", pwd: secret("service_password"), roles: roles });
}
