# Read by each bash of a Ray container (BASH_ENV). KubeRay's init container waits for the head in a bash that is the
# container's first process, and the kernel keeps signals without a handler from such a process: a pod that is deleted
# meanwhile would stay for its whole grace period.
case ${BASH_EXECUTION_STRING-} in
    *"Waiting for GCS"*) trap 'exit 143' TERM ;;
esac
