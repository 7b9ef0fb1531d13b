// A library that a plug-in was linked to and that its loader does not find.
extern "C" __attribute__((visibility("default"))) int concord_test_nobody_has_this() { return 0; }
