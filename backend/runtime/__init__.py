"""Run compiled models. Nothing here loads torch or TVM's compiler, so a device needs neither."""
