/* MySQL's server is linked against libaio and libnuma, which many machines lack. The development stack switches off
   what they are for (innodb-use-native-aio=0, innodb-numa-interleave=0), so names that say "not here" are enough. */

#define NOT_IMPLEMENTED (-38)

int io_setup(void) { return NOT_IMPLEMENTED; }
int io_submit(void) { return NOT_IMPLEMENTED; }
int io_getevents(void) { return NOT_IMPLEMENTED; }

void *numa_all_nodes_ptr;
int numa_available(void) { return -1; }
int numa_node_of_cpu(void) { return -1; }
void *numa_alloc_local(void) { return 0; }
void *numa_alloc_onnode(void) { return 0; }
void numa_free(void) {}
long set_mempolicy(void) { return -1; }
long mbind(void) { return -1; }
